"""Whole volumes on a device: the worker runs their windows and blends them there, class numbers come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, OnProgress, ignore_progress
from edgeft.device.transport import run_job
from edgeft.errors import StepError
from edgeft.medical.sliding import Answered, Plan, count_windows
from edgeft.targets.artifact_jobs import make_job, served_batch

if TYPE_CHECKING:
    from edgeft.task import Arrays


def run_slides(
    device: Device,
    runtime: str,
    artifact: Artifact,
    signature: Signature,
    cases: Sequence[Arrays],
    plan: Plan,
    on_progress: OnProgress = ignore_progress,
) -> list[Answered]:
    """An answer per case, in order. cases: each one canonical feed without a batch, of its own extents.

    plan: its batch gives way to the artefact's own where that is fixed. on_progress: cases done, of all.
    ArtefactRefused where the runtime does not take it or its answers do not fit; DeviceError when the device fails.
    """
    name, spec = _input(signature)
    feeds = {str(place): case[name] for place, case in enumerate(cases)}
    settings = {
        "plan": {**asdict(plan), "patch": list(plan.patch), "batch": served_batch(signature, plan.batch)},
        "input": spec.name, "dtype": spec.dtype, "output": signature.outputs["logits"].name,
    }  # fmt: skip
    result = run_job(device, make_job(device, "slide", runtime, artifact, settings, {"feeds": feeds}), on_progress)
    shapes = [case[name].shape[plan.axis : plan.axis + 3] for case in cases]
    try:
        return [_answer(result.arrays, result.data, place, shape, plan) for place, shape in enumerate(shapes)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArtefactRefused(f"the artefact's answers do not fit the volumes: {error}") from error


def _input(signature: Signature) -> tuple[str, Any]:
    """(canonical name, spec) of the one input. StepError where there are more."""
    if len(signature.inputs) != 1 or "logits" not in signature.outputs:
        found = ", ".join(signature.inputs)
        raise StepError(f"a volume's network has one input and logits, this one takes {found}")
    return next(iter(signature.inputs.items()))


def _answer(
    arrays: Mapping[str, Any], data: Mapping[str, Any], place: int, shape: Sequence[int], plan: Plan
) -> Answered:
    """What the device wrote of one case, checked: nothing of it is trusted."""
    import numpy as np

    classes, mean = arrays[str(place)], np.asarray(data["mean_logits"][place], np.float32)
    if classes.dtype != np.uint8 or classes.shape != tuple(shape):
        raise ValueError(f"{classes.dtype} {classes.shape} for {tuple(shape)}")
    if mean.ndim != 1 or int(classes.max(initial=0)) >= len(mean):
        raise ValueError(f"class {int(classes.max(initial=0))} of {mean.shape}")
    return Answered(classes, mean, count_windows(shape, plan), int(data["skipped"][place]))
