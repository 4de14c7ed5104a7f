"""Both sides on the same cases: feeds by each side's own preprocessing, answers from the device, scores by label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import OnProgress
from edgeft.errors import DeviceError, StepError
from edgeft.ship.check.sides import LOGITS, Contender, Reading
from edgeft.targets.measure import run_outputs
from edgeft.task import Arrays, Score, cases_per_chunk, keep_answers

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Answered:
    """A side's answers, classes in the order of the baseline's labels, and their score."""

    outputs: Arrays
    score: Score


def answer_cases(
    device: Device,
    side: Contender,
    signature: Signature,
    rows: pa.Table,
    labels: Sequence[str],
    order: Sequence[int] | None,
    batch: int,
    on_progress: OnProgress,
) -> Answered:
    """Run all rows. labels: the baseline's; order: where each stands among this side's, None: at the same place.

    StepError, with the side's name, where its answers cannot be scored; ArtefactRefused, DeviceError.
    """
    import numpy as np

    reading, parts = _reading(side), []
    with naming(side):
        size = cases_per_chunk(reading.folder)
        for start in range(0, rows.num_rows, size):
            feeds = reading.task.feeds(rows.slice(start, size), reading.folder)
            outputs = run_outputs(
                device, side.model.runtime, side.model.artifact, signature, feeds, batch=batch,
                on_progress=lambda done, _, start=start: on_progress(start + done, rows.num_rows),  # type: ignore[misc]
            )  # fmt: skip
            parts.append(keep_answers(reading.task, _reordered(outputs, order, len(labels)), feeds))
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Answered(found, reading.task.score(found, rows, labels))


def feeds_of(side: Contender, rows: pa.Table) -> Arrays:
    """Canonical feeds of some rows."""
    with naming(side):
        reading = _reading(side)
        return reading.task.feeds(rows, reading.folder)


@contextmanager
def naming(side: Contender) -> Iterator[None]:
    """Errors of the tasks and runtimes know nothing of sides: say which one it was."""
    name = f"{side.role} {side.path}"
    try:
        yield
    except (StepError, DeviceError) as error:
        where = f"{name}: {error.where}" if error.where and error.where not in name else name
        raise type(error)(error.what, where=where, hint=error.hint, excerpt=error.excerpt) from error


def _reordered(outputs: Arrays, order: Sequence[int] | None, labels: int) -> Arrays:
    """Logits (n, classes, ...) with their classes in the baseline's order."""
    logits = outputs[LOGITS]
    if order is None or logits.ndim < 2 or logits.shape[1] != labels:
        return outputs
    return {**outputs, LOGITS: logits[:, list(order)]}


def _reading(side: Contender) -> Reading:
    if side.reading is None:
        raise ValueError(f"the {side.role} has no preprocessing")
    return side.reading


def tell_agreement(ours: Answered, theirs: Answered) -> str:
    """How often the answer is another one than before, whether right or wrong."""
    first, second = (side.outputs.get("classes", side.score.predictions) for side in (ours, theirs))
    if first.shape != second.shape:
        return "the sides answer masks of different sizes, which cannot be laid on one another"
    same: Any = first == second
    each = "pixels" if "classes" in ours.outputs else "cases"
    return f"the same answer on {int(same.sum()):,} of {same.size:,} {each} ({float(same.mean()):.2%})"
