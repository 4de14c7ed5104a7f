"""One model of any origin on one device: the jobs, and the record from their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from edgeft import __version__
from edgeft.artifact import Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, Job, OnProgress, Result, ignore_progress
from edgeft.device.transport import runtime_file
from edgeft.errors import DeviceError
from edgeft.record import RooflineRow
from edgeft.targets.artifact_jobs import is_timing, make_job, read_times, run_jobs, runtime_feeds, timing_jobs
from edgeft.targets.latency import PROTOCOLS
from edgeft.targets.layer_counts import count_layers
from edgeft.targets.measure import describe_times, fallback_fraction, read_operators
from edgeft.targets.profile.inputs import Feeds, load_feeds, make_feeds
from edgeft.targets.profile.model import Model, inspect_model, require_runtime
from edgeft.targets.profile.record import ModelRow, ProfileRecord, TensorRow
from edgeft.targets.roofline import estimate_floor, probe_jobs, read_probe

if TYPE_CHECKING:
    from edgeft.record import ProbeRow

    Answers = Mapping[str, Result | ArtefactRefused]

OPERATOR_RUNS = 20
PROBE = "probe:"


@dataclass(frozen=True)
class Ask:
    """What to feed and how long to measure. shapes: input -> full shape. batch None: the model's own, else 1."""

    protocol: Literal["quick", "full"] = "quick"
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: Path | None = None

    def feeds(self, signature: Signature) -> Feeds:
        """Your own cases, or made-up ones."""
        if self.inputs is not None:
            return load_feeds(self.inputs, signature, self.batch)
        return make_feeds(signature, self.shapes, self.batch)


def profile_model(
    device: Device, model: Model, ask: Ask, on_progress: OnProgress = ignore_progress
) -> tuple[ProfileRecord, dict[str, Any]]:
    """(record, raw samples: every block with its runs, void ones too). DeviceError where its times would not count."""
    refuse_times(device)
    require_runtime(device, model.runtime)
    signature = inspect_model(device, model)
    feeds = ask.feeds(signature)
    started = now()
    with TemporaryDirectory(prefix="edgeft-probe-") as folder:
        jobs = plan_profile(device, model, signature, feeds, ask, Path(folder))
        answers = run_jobs(device, jobs, on_progress)
    return read_profile(device, model, signature, feeds, ask, answers, started)


def refuse_times(device: Device) -> None:
    """DeviceError where times taken through this profile are not the device's own: of emulation, and for iOS."""
    if device.times_count:
        return
    if device.how == "emulated":
        raise DeviceError(
            f"{device.name} is emulated: times taken there are the emulator's and say nothing about the device",
            hint="profile on a real one (`edgeft devices add`); accuracy under emulation is what `edgeft build` gates",
        )
    raise DeviceError(
        f"{device.name} runs no worker: another machine answers in its place, and its times are not the device's",
        hint="time the model in an app on the device; a Mac's own times need a profile of the Mac (os: macos)",
    )


def plan_profile(
    device: Device, model: Model, signature: Signature, feeds: Feeds, ask: Ask, folder: Path
) -> dict[str, Job]:
    """Every job of a profile by name, timing first, while the device is as it was found. folder: for probe models."""
    own = runtime_feeds(signature, feeds.arrays)
    first = {"feeds": {name: array[: feeds.batch] for name, array in own.items()}}
    jobs = timing_jobs(device, model.runtime, model.artifact, own, feeds.batch, PROTOCOLS[ask.protocol])
    profiled = {"batch": feeds.batch, "runs": OPERATOR_RUNS}
    jobs["operators"] = make_job(device, "operators", model.runtime, model.artifact, profiled, first)
    jobs["describe"] = Job("describe", runtime_file(model.runtime), timeout=120.0)
    return {**jobs, **{PROBE + name: job for name, job in probe_jobs(device, folder).items()}}


def read_profile(
    device: Device, model: Model, signature: Signature, feeds: Feeds, ask: Ask, answers: Answers, started: str
) -> tuple[ProfileRecord, dict[str, Any]]:
    """The record and the raw samples from the answers to `plan_profile`. Raises what refused the timing."""
    own = runtime_feeds(signature, feeds.arrays)
    timing = {name: answer for name, answer in answers.items() if is_timing(name)}
    raw = read_times(timing, feeds.batch, own)
    row, metrics = describe_times(device, model.runtime, model.bytes, raw, ask.protocol)
    ran = read_operators(answers["operators"])
    probe, no_probe = _probe(device, answers)
    shapes = {name: (feeds.batch, *array.shape[1:]) for name, array in own.items()}
    p50 = next(metric.value for metric in metrics if metric.metric == "latency_p50_ms")
    roofline, why = _roofline(model, shapes, probe, p50 if row.valid else None) if probe else (None, no_probe)
    record = ProfileRecord(
        edgeft=__version__,
        started=started,
        device=device.name,
        protocol=ask.protocol,
        threads=device.threads,
        batch=feeds.batch,
        model=describe_model(model, signature, shapes),
        inputs=feeds.said,
        verdict="VALID" if row.valid else "INVALID",
        reasons=row.reasons,
        latency=row,
        metrics=[metric.to_json() for metric in metrics],
        placement=dict(ran.placement),
        fallback=fallback_fraction(ran.placement, device, model.runtime),
        operators=ran.operators,
        operators_note=ran.why,
        roofline=roofline,
        roofline_note=why,
        probe=probe,
        conditions={str(name): str(value) for name, value in _data(answers["describe"]).get("facts", {}).items()},
    )
    return record, {**raw.timed, "starts": raw.starts}


def describe_model(model: Model, signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> ModelRow:
    """The file and its tensors. shapes: the runtime's input name -> as it was run."""
    return ModelRow(
        file=model.label,
        runtime=model.runtime,
        bytes=model.bytes,
        sha256=model.artifact.digest,
        inputs=[
            TensorRow(name=spec.name, dtype=spec.dtype, shape=list(spec.shape), run=list(shapes.get(spec.name, ())))
            for spec in signature.inputs.values()
        ],
        outputs=[
            TensorRow(name=spec.name, dtype=spec.dtype, shape=list(spec.shape)) for spec in signature.outputs.values()
        ],
    )


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _data(answer: Result | ArtefactRefused) -> Mapping[str, Any]:
    return {} if isinstance(answer, ArtefactRefused) else answer.data


def _probe(device: Device, answers: Answers) -> tuple[ProbeRow | None, str]:
    """The device's peak rates, or why it has none: a floor less, the times stand without it."""
    own = {name[len(PROBE) :]: part for name, part in answers.items() if name.startswith(PROBE)}
    try:
        return read_probe(device, own), ""
    except ArtefactRefused as refusal:
        return None, f"the device's peak rates are not known: {refusal.what}"


def _roofline(
    model: Model, shapes: Mapping[str, tuple[int, ...]], probe: ProbeRow, p50: float | None
) -> tuple[RooflineRow | None, str]:
    """From the ONNX graph itself; other formats do not say their layers."""
    if model.artifact.path.suffix != ".onnx":
        return None, "layers are counted in ONNX graphs only"
    try:
        layers = count_layers(model.artifact.path, shapes)
    except (ValueError, ImportError) as error:
        return None, str(error)
    floor = estimate_floor(layers, probe, p50_ms=p50)
    if floor is None:
        return None, "there is no layer with weights, or no rate was measured for its arithmetic"
    return floor, ""
