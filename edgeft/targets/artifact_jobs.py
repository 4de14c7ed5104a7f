"""Artefacts as jobs for a device: feeds under the runtime's names, what the device asks of the runtime, the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, Signature, entry_file
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, Job, JobKind, OnProgress, Result, ignore_progress
from edgeft.device.transport import run_job, runtime_file
from edgeft.errors import StepError
from edgeft.targets.answers import Start, Timed, check
from edgeft.targets.latency import Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays

PREDICT_TIMEOUT, TIMED_TIMEOUT = 6 * 3600.0, 1800.0
SILENCE = 1800.0
"""Seconds that loading and the first batch, or any later batch, may take: a batch of an emulated core takes minutes."""
CPU = "CPUExecutionProvider"
OFF_THE_CPU = frozenset({"coreml"})
"""Runtimes that may put the work on an accelerator by themselves."""


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


def served_batch(signature: Signature, batch: int) -> int:
    """The batch to run: the artefact's own where it is fixed."""
    sizes = {spec.shape[0] for spec in signature.inputs.values() if spec.shape and isinstance(spec.shape[0], int)}
    return int(next(iter(sizes))) if sizes else batch


def model_entry(artifact: Artifact) -> Path:
    """The file a runtime opens; StepError where the artefact has none."""
    if artifact.path.suffix == ".mlpackage":
        return artifact.path
    try:
        return entry_file(artifact.path)
    except ValueError as error:
        raise StepError(str(error), where=str(artifact.path)) from error


def runtime_options(device: Device) -> dict[str, Any]:
    """What a runtime is told of the device."""
    more = device.provider_options
    providers = [[name, more[name]] if name in more else name for name in device.providers]
    return {"threads": device.threads, "providers": providers, "fallback": device.fallback}


def runs_off_the_cpu(device: Device, runtime: str) -> bool:
    """Whether the device asks this runtime for an accelerator first."""
    if runtime in OFF_THE_CPU:
        return True
    return runtime == "onnxruntime" and device.providers[0] != CPU


def make_job(
    device: Device,
    kind: JobKind,
    runtime: str,
    artifact: Artifact,
    settings: Mapping[str, Any],
    feeds: Mapping[str, Arrays],
) -> Job:
    """A job on an artefact, with what the device asks of its runtime."""
    about = {**settings, "options": runtime_options(device), "affinity": list(device.affinity)}
    answering = kind in ("predict", "slide")
    timeout, silence = (PREDICT_TIMEOUT, SILENCE) if answering else (TIMED_TIMEOUT, float("inf"))
    return Job(kind, runtime_file(runtime), {"model": model_entry(artifact)}, feeds, about, timeout, silence)


@dataclass(frozen=True)
class RawTimes:
    """What the device answered: the `latency` job's data, one `cold` answer a process, the shape of the first feed."""

    timed: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]
    shape: str


def timing_jobs(
    device: Device, runtime: str, artifact: Artifact, own: Arrays, size: int, plan: Protocol
) -> dict[str, Job]:
    """The timing loop and the fresh processes as jobs by name. own: feeds under the runtime's names."""
    settings = {"batch": size, "runs": plan.runs, "seconds": plan.seconds}
    jobs = {"latency": make_job(device, "latency", runtime, artifact, settings, {"feeds": own})}
    first = {name: array[:size] for name, array in own.items()}
    for index in range(plan.cold):
        jobs[f"cold-{index}"] = make_job(device, "cold", runtime, artifact, {"batch": size}, {"feeds": first})
    return jobs


def is_timing(name: str) -> bool:
    """Whether a job of this name is one of `timing_jobs`."""
    return name == "latency" or name.startswith("cold-")


def read_times(answers: Mapping[str, Result | ArtefactRefused], size: int, own: Arrays) -> RawTimes:
    """The answers to `timing_jobs`; the first refusal among them is raised."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, answer in answers.items():
        if isinstance(answer, ArtefactRefused):
            raise answer
        found[name] = answer.data
    shape = "x".join(str(extent) for extent in (size, *next(iter(own.values())).shape[1:]))
    starts = [check(Start, data).model_dump() for name, data in found.items() if name.startswith("cold-")]
    return RawTimes(check(Timed, found.get("latency", {})).model_dump(), starts, shape)


def run_jobs(
    device: Device, jobs: Mapping[str, Job], on_progress: OnProgress = ignore_progress
) -> dict[str, Result | ArtefactRefused]:
    """Answers by name, in order; a job that the runtime refused answers with its refusal. DeviceError ends it."""
    answers: dict[str, Result | ArtefactRefused] = {}
    for name, job in jobs.items():
        try:
            answers[name] = run_job(device, job, on_progress if job.kind == "latency" else ignore_progress)
        except ArtefactRefused as refusal:
            answers[name] = refusal
            if job.kind in ("latency", "cold"):
                break  # what cannot load once will not load again
    return answers
