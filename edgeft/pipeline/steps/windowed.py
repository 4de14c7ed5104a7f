"""Answers of a task whose network sees windows: whole volumes go to the device, one array of classes comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact, Signature
from edgeft.device.profile import Device
from edgeft.errors import StepError
from edgeft.medical.sliding import Answered, count_windows, segment
from edgeft.task import Arrays, WindowedTask

CHUNK_BYTES = 256 << 20
"""Volumes that are in memory, and on their way to a device, at a time; one at least."""
HOST_BATCH = 4
"""Windows that the torch model is given at a time."""

Progress = Callable[[float, float], None]


def volumes_on_device(
    device: Device, runtime: str, artifact: Artifact, signature: Signature, rows: Any, task: WindowedTask,
    prepared: Path, batch: int, progress: Progress, *, every: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """classes and mean_logits of all rows. batch: windows of a run; every: those that may be skipped are run, too."""
    found = answer_volumes(
        device, runtime, artifact, signature, rows, task, prepared, batch, progress, every=every
    )  # fmt: skip
    return stacked(list(found), task.largest(prepared))


def answer_volumes(
    device: Device, runtime: str, artifact: Artifact, signature: Signature, rows: Any, task: WindowedTask,
    prepared: Path, batch: int, progress: Progress, *, every: bool = False,
) -> Iterator[Answered]:  # fmt: skip
    """The same row by row; no more than CHUNK_BYTES of volumes, or one, are in memory."""
    from edgeft.targets.slides import run_slides

    plan, done = task.plan(prepared, batch, whole=every), 0
    for cases in _chunks(task.whole(rows, prepared)):
        yield from run_slides(
            device, runtime, artifact, signature, cases, plan,
            on_progress=lambda part, _, before=done: progress(before + part, rows.num_rows),  # type: ignore[misc]
        )  # fmt: skip
        done += len(cases)


def volumes_here(
    logits: Callable[[Mapping[str, Any]], Any], rows: Any, task: WindowedTask, prepared: Path, progress: Progress
) -> dict[str, Any]:
    """The same by a model in this process, every window run. logits: canonical feeds -> logits."""
    plan, parts = task.plan(prepared, HOST_BATCH, whole=True), []
    for case in task.whole(rows, prepared):
        name, array = next(iter(case.items()))
        parts.append(segment(array, plan, lambda windows, name=name: logits({name: windows})))  # type: ignore[misc]
        progress(len(parts), rows.num_rows)
    return stacked(parts, task.largest(prepared))


def stacked(answers: Sequence[Answered], largest: Sequence[int]) -> dict[str, Any]:
    """classes, uint8 (n, *largest), 0 beyond each volume; mean_logits, float32 (n, classes)."""
    import numpy as np

    if not answers:
        return {}
    classes = np.zeros((len(answers), *largest), np.uint8)
    for whole, answer in zip(classes, answers, strict=True):
        if any(have > most for have, most in zip(answer.classes.shape, largest, strict=True)):
            raise StepError(
                f"a volume of {answer.classes.shape} is larger than any that the build was prepared for ({largest})"
            )
        whole[tuple(slice(extent) for extent in answer.classes.shape)] = answer.classes
    return {"classes": classes, "mean_logits": np.stack([answer.mean_logits for answer in answers])}


def windows_per_case(task: Any, prepared: Path) -> int:
    """Windows of the largest volume; 1 where a case is what the network sees."""
    if not isinstance(task, WindowedTask):
        return 1
    return count_windows(task.largest(prepared), replace(task.plan(prepared, 1), empty=None))


def window_words(task: Any, prepared: Path) -> str:
    """What a latency is of, where it is not of a whole case; else empty."""
    if not isinstance(task, WindowedTask):
        return ""
    patch = " x ".join(map(str, task.plan(prepared, 1).patch))
    count = windows_per_case(task, prepared)
    extents = " x ".join(map(str, task.largest(prepared)))
    return f"ONE window of {patch}, of which the largest volume, {extents}, has {count}"


def _chunks(cases: Iterator[Arrays]) -> Iterator[list[Arrays]]:
    held: list[Arrays] = []
    size = 0
    for case in cases:
        own = sum(int(array.nbytes) for array in case.values())
        if held and size + own > CHUNK_BYTES:
            yield held
            held, size = [], 0
        held.append(case)
        size += own
    if held:
        yield held
