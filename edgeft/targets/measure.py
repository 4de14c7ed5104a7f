"""Artefacts on devices: answers to cases, latency with intervals, operators, and where nodes run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgeft.artifact import Artifact, Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, Job, OnProgress, Result, ignore_progress
from edgeft.device.transport import run_job, runtime_file
from edgeft.measurement import Measurement
from edgeft.record import LatencyRow, OperatorRow
from edgeft.targets.answers import Operators, check
from edgeft.targets.artifact_jobs import (
    RawTimes,
    make_job,
    read_times,
    run_jobs,
    runs_off_the_cpu,
    runtime_feeds,
    served_batch,
    timing_jobs,
)
from edgeft.targets.latency import (
    PROTOCOLS,
    Protocol,
    cold_measurements,
    latency_measurements,
    latency_row,
    processor_measurement,
    valid_samples,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays


def run_outputs(
    device: Device,
    runtime: str,
    artifact: Artifact,
    signature: Signature,
    feeds: Arrays,
    *,
    batch: int,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, NDArray[Any]]:
    """Canonical outputs (n, ...) of canonical feeds (n, ...) in row order, run on the device `batch` cases at a time.

    Raises ArtefactRefused when the runtime does not take the artefact, DeviceError when the device fails.
    """
    own = runtime_feeds(signature, feeds)
    job = make_job(device, "predict", runtime, artifact, {"batch": served_batch(signature, batch)}, {"feeds": own})
    result = run_job(device, job, on_progress)
    n = len(next(iter(own.values())))
    outputs = {name: result.arrays[spec.name] for name, spec in signature.outputs.items() if spec.name in result.arrays}
    if set(outputs) != set(signature.outputs) or any(len(array) != n for array in outputs.values()):
        raise ArtefactRefused(f"the artefact answered {sorted(result.arrays)}, expected {sorted(signature.outputs)}")
    return outputs


def measure_latency(
    device: Device,
    runtime: str,
    artifact: Artifact,
    signature: Signature,
    feeds: Arrays,
    *,
    batch: int,
    protocol: Literal["quick", "full"] = "quick",
    note: str = "",
    on_progress: OnProgress = ignore_progress,
) -> tuple[LatencyRow, list[Measurement]]:
    """Distribution of single runs, start-up, memory and size. DeviceError on an emulated device. note: what a run is.

    Measurements: latency_p50/p90/p99_ms, processor_ms, cold_load_ms, first_inference_ms, peak_memory_mb, artifact_mb.
    """
    raw = time_artifact(
        device, runtime, artifact, signature, feeds, batch=batch, plan=PROTOCOLS[protocol], on_progress=on_progress
    )
    return describe_times(device, runtime, artifact_bytes(artifact), raw, protocol, note)


def time_artifact(
    device: Device,
    runtime: str,
    artifact: Artifact,
    signature: Signature,
    feeds: Arrays,
    *,
    batch: int,
    plan: Protocol,
    on_progress: OnProgress = ignore_progress,
) -> RawTimes:
    """Run the timing loop, then the fresh processes for start-up."""
    own = runtime_feeds(signature, feeds)
    jobs = timing_jobs(device, runtime, artifact, own, served_batch(signature, batch), plan)
    answers = run_jobs(device, jobs, on_progress)
    return read_times(answers, served_batch(signature, batch), own)


def describe_times(
    device: Device, runtime: str, size: int, raw: RawTimes, protocol: Literal["quick", "full"], note: str = ""
) -> tuple[LatencyRow, list[Measurement]]:
    """The raw answers as a row and measurements; those of an INVALID run say so in their method. size: bytes."""
    row = latency_row(
        raw.timed, PROTOCOLS[protocol], threads=device.threads, shape=raw.shape, protocol=protocol,
        accelerated=runs_off_the_cpu(device, runtime),
    )  # fmt: skip
    row = row.model_copy(update={"shape": f"{row.shape} ({note})"}) if note else row
    if all(start["peak_mb"] is None for start in raw.starts):
        row = row.model_copy(update={"conditions": {**row.conditions, "peak_memory": "this system does not tell it"}})
    note = f"; {note}" if note else ""
    note += f"; INVALID: {row.reasons[0]}" if row.reasons else ""
    samples = valid_samples(raw.timed) or row.samples_ms
    processor = processor_measurement(raw.timed, device.name)
    return row, [
        *latency_measurements(samples, device.name, note),
        *([processor] if processor else []),
        *cold_measurements(raw.starts, device.name),
        Measurement("artifact_mb", size / 1e6, "MB", 1, "measured", device.name, method="file size"),
    ]


@dataclass(frozen=True)
class Ran:
    """How a model ran. placement: backend -> nodes it really ran, as the runtime's own profile says. operators: time of
    each, in the order they ran; none where the runtime does not tell: `why` says so."""

    placement: Mapping[str, int]
    operators: list[OperatorRow]
    why: str


def measure_operators(
    device: Device, runtime: str, artifact: Artifact, signature: Signature, feeds: Arrays, *, batch: int, runs: int = 20
) -> Ran:
    """Where nodes ran and what each operator takes: one process of its own, apart from every timed one."""
    own = runtime_feeds(signature, feeds)
    size = served_batch(signature, batch)
    first = {name: array[:size] for name, array in own.items()}
    job = make_job(device, "operators", runtime, artifact, {"batch": size, "runs": runs}, {"feeds": first})
    try:
        answer: Result | ArtefactRefused = run_job(device, job)
    except ArtefactRefused as refusal:
        answer = refusal
    return read_operators(answer)


def read_operators(answer: Result | ArtefactRefused) -> Ran:
    """An `operators` job's answer, with each operator's share of all their time."""
    if isinstance(answer, ArtefactRefused):
        return Ran({}, [], answer.what)
    found = check(Operators, answer.data)
    total = sum(row.ms for row in found.operators) or 1.0
    rows = [
        OperatorRow(name=row.name, op=row.op, backend=row.backend, ms=row.ms, share=row.ms / total)
        for row in found.operators
    ]
    return Ran(found.placement, rows, found.why)


def fallback_fraction(placement: Mapping[str, int], device: Device, runtime: str) -> float | None:
    """Fraction of nodes that the provider which the device prefers, or a delegate, left to the runtime's CPU kernels.

    None where there is neither. LiteRT offers every model to XNNPACK; an ExecuTorch program has a delegate or has none.
    """
    nodes = sum(placement.values())
    if runtime == "executorch":
        asked, own = bool(set(placement) - {"portable"}), "PORTABLE"
    else:
        asked, own = runtime == "litert" or runs_off_the_cpu(device, runtime), "CPU"
    if not nodes or not asked:
        return None
    return sum(count for name, count in placement.items() if name.upper().startswith(own)) / nodes


def describe_device(device: Device, runtime: str) -> dict[str, str]:
    """Machine, CPU flags, clock and runtime version, as the device says."""
    result: Result = run_job(device, Job("describe", runtime_file(runtime), timeout=120.0))
    return {str(name): str(value) for name, value in result.data["facts"].items()}


def artifact_bytes(artifact: Artifact) -> int:
    """Bytes of the model's files."""
    files = (
        [artifact.path] if artifact.path.is_file() else [path for path in artifact.path.rglob("*") if path.is_file()]
    )
    return sum(path.stat().st_size for path in files)
