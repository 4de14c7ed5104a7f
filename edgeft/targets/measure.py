"""Artefacts on devices: answers to cases, latency with intervals, and where nodes run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeft.artifact import Artifact, Signature, entry_file
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, Job, JobKind, OnProgress, Result, ignore_progress
from edgeft.device.quantiles import quantile, quantile_interval
from edgeft.device.timing import OWN_CORE
from edgeft.device.transport import run_job, runtime_file
from edgeft.errors import StepError
from edgeft.measurement import Measurement
from edgeft.record import LatencyRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays

PREDICT_TIMEOUT, TIMED_TIMEOUT = 6 * 3600.0, 1800.0
CONFIDENCE = 0.95
KEPT_SAMPLES = 2048


@dataclass(frozen=True)
class Protocol:
    """runs and seconds: both at least. cold: fresh processes for start-up (7 give the median a 98% interval)."""

    runs: int
    seconds: float
    cold: int


PROTOCOLS = {"quick": Protocol(64, 10.0, 7), "full": Protocol(1024, 60.0, 15)}


def runtime_feeds(signature: Signature, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """Canonical feeds under the artefact's own names and dtypes; feeds it does not take are left out.

    StepError when one it needs is missing, or a fixed dimension has another size.
    """
    import numpy as np

    found = {}
    for name, spec in signature.inputs.items():
        if name not in feeds:
            raise StepError(
                f"the artefact takes '{spec.name}', and the task makes {', '.join(sorted(feeds))}",
                hint="export the model with the inputs its preprocessing makes",
            )
        array = np.ascontiguousarray(feeds[name]).astype(spec.dtype, copy=False)
        fixed = [(want, have) for want, have in zip(spec.shape[1:], array.shape[1:], strict=False) if want != have]
        if len(spec.shape) != array.ndim or any(isinstance(want, int) for want, _ in fixed):
            raise StepError(
                f"'{spec.name}' has shape {list(spec.shape)}, the cases have {list(array.shape)}",
                hint="state the artefact's own length as serve.length",
            )
        found[spec.name] = array
    return found


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
    job = _job(device, "predict", runtime, artifact, {"batch": _batch(signature, batch)}, {"feeds": own})
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
    on_progress: OnProgress = ignore_progress,
) -> tuple[LatencyRow, list[Measurement]]:
    """Distribution of single runs, start-up, memory and size. DeviceError on an emulated device.

    Measurements: latency_p50/p90/p99_ms, cold_load_ms, first_inference_ms, peak_memory_mb, artifact_mb.
    """
    plan, size = PROTOCOLS[protocol], _batch(signature, batch)
    own = runtime_feeds(signature, feeds)
    settings = {"batch": size, "runs": plan.runs, "seconds": plan.seconds}
    timed = run_job(device, _job(device, "latency", runtime, artifact, settings, {"feeds": own}), on_progress).data
    samples = [float(value) for value in timed["samples_ms"]]
    starts = [
        run_job(device, _job(device, "cold", runtime, artifact, {"batch": size}, {"feeds": own})).data
        for _ in range(plan.cold)
    ]
    shape = "x".join(str(extent) for extent in (size, *next(iter(own.values())).shape[1:]))
    row = LatencyRow(
        samples_ms=thin(samples, KEPT_SAMPLES), runs=len(samples), warmup_runs=int(timed["warmup_runs"]),
        seconds=float(timed["seconds"]), threads=device.threads, shape=shape, protocol=protocol,
        throttled=bool(timed["throttled"]),
    )  # fmt: skip
    size_mb = Measurement(
        "artifact_mb", artifact_bytes(artifact) / 1e6, "MB", 1, "measured", device.name, method="file size"
    )
    return row, [
        *latency_measurements(samples, device.name, float(timed["core_share"])),
        *cold_measurements(starts, device.name),
        size_mb,
    ]


def measure_placement(
    device: Device, runtime: str, artifact: Artifact, signature: Signature, feeds: Arrays, *, batch: int = 1
) -> Mapping[str, int]:
    """Backend -> nodes it really ran, as the runtime's own profile says."""
    own = {name: array[:1] for name, array in runtime_feeds(signature, feeds).items()}
    settings = {"batch": _batch(signature, batch)}
    data = run_job(device, _job(device, "placement", runtime, artifact, settings, {"feeds": own})).data
    return {str(name): int(count) for name, count in data["placement"].items()}


def describe_device(device: Device, runtime: str) -> dict[str, str]:
    """Machine, CPU flags, clock and runtime version, as the device says."""
    result: Result = run_job(device, Job("describe", runtime_file(runtime), timeout=120.0))
    return {str(name): str(value) for name, value in result.data["facts"].items()}


def latency_measurements(samples: list[float], where: str, core_share: float = 1.0) -> list[Measurement]:
    """p50, p90 and p99 in ms with order-statistic intervals, widened for autocorrelation; None where n is too small."""
    found = []
    for percent in (50, 90, 99):
        interval, worth = quantile_interval(samples, percent / 100, CONFIDENCE)
        method = f"order statistics, {len(samples)} runs worth {worth:.0f} independent ones"
        if core_share < OWN_CORE:
            method += f"; other work ran on the device, this process had {core_share:.0%} of a core"
        found.append(
            Measurement(
                f"latency_p{percent}_ms", quantile(samples, percent / 100), "ms", len(samples), "measured", where,
                interval, CONFIDENCE, method,
            )
        )  # fmt: skip
    return found


def cold_measurements(starts: list[Mapping[str, Any]], where: str) -> list[Measurement]:
    """Medians over fresh processes; the model's file is in the page cache, the runtime is imported before."""
    base = quantile([float(start["before_mb"]) for start in starts], 0.5)
    about = {
        "cold_load_ms": ("load_ms", "ms", "load of the model, median of fresh processes, file in the page cache"),
        "first_inference_ms": ("first_ms", "ms", "first run after loading, median of fresh processes"),
        "peak_memory_mb": (
            "peak_mb",
            "MB",
            f"largest resident set of the process ({base:.0f} MB before loading), median",
        ),
    }
    found = []
    for metric, (key, unit, method) in about.items():
        values = [float(start[key]) for start in starts]
        interval, _ = quantile_interval(values, 0.5, CONFIDENCE)
        value = quantile(values, 0.5)
        found.append(Measurement(metric, value, unit, len(values), "measured", where, interval, CONFIDENCE, method))
    return found


def artifact_bytes(artifact: Artifact) -> int:
    """Bytes of the model's files."""
    files = (
        [artifact.path] if artifact.path.is_file() else [path for path in artifact.path.rglob("*") if path.is_file()]
    )
    return sum(path.stat().st_size for path in files)


def thin(samples: list[float], most: int) -> list[float]:
    """Evenly spaced samples, at most `most`, in order."""
    n = len(samples)
    return samples if n <= most else [samples[index * n // most] for index in range(most)]


def model_entry(artifact: Artifact) -> Path:
    """The file a runtime opens; StepError where the artefact has none."""
    try:
        return entry_file(artifact.path)
    except ValueError as error:
        raise StepError(str(error), where=str(artifact.path)) from error


def _batch(signature: Signature, batch: int) -> int:
    """The batch to run: the artefact's own where it is fixed."""
    sizes = {spec.shape[0] for spec in signature.inputs.values() if spec.shape and isinstance(spec.shape[0], int)}
    return int(next(iter(sizes))) if sizes else batch


def _job(
    device: Device,
    kind: JobKind,
    runtime: str,
    artifact: Artifact,
    settings: Mapping[str, Any],
    feeds: Mapping[str, Arrays],
) -> Job:
    about = {**settings, "options": {"threads": device.threads}}
    timeout = PREDICT_TIMEOUT if kind == "predict" else TIMED_TIMEOUT
    return Job(kind, runtime_file(runtime), {"model": model_entry(artifact)}, feeds, about, timeout)
