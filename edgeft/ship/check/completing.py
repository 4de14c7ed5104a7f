"""What the gates of a check ask of a score besides: values in mm, and the answers that frozen thresholds give."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import StepError
from edgeft.gate import Gate, OperatingPoint
from edgeft.metric_names import FLIP_RATE, LABEL_ACCURACY, RATE_FAMILIES
from edgeft.pipeline.judging.scoring import measured
from edgeft.ship.check.asking import Answered
from edgeft.ship.check.sides import Contender, Reading
from edgeft.ship.postprocess import read_points, read_thresholds
from edgeft.task import Score

if TYPE_CHECKING:
    import pyarrow as pa


ANSWERED = ("accuracy", "macro_f1", FLIP_RATE, LABEL_ACCURACY, *RATE_FAMILIES)
"""Metrics, or beginnings of their names, of what is answered; the others are of probabilities."""


def complete(
    answered: Answered,
    reading: Reading,
    side: Contender,
    rows: pa.Table,
    gates: Collection[Gate],
    note: Callable[[str], None],
) -> Score:
    """A side's score with what can be had; a gate on the rest cannot be decided, and `note` is told why.

    reading: the baseline's, whose labels the score counts by. Each side is held at the thresholds it was shipped with:
    a bare model at those of the bundle whose reading it shares.
    """
    thresholds = shipped_thresholds(side.reading.folder, gates) if side.reading is not None else {}
    try:
        values = measured(reading.task, answered.outputs, rows, reading.labels, gates)
    except StepError as error:
        note(f"{error.what} ({error.hint})" if error.hint else error.what)
        values = {}
    return replace(answered.score, cases={**answered.score.cases, **values}, thresholds=thresholds)


def shipped_thresholds(folder: Path, gates: Collection[Gate]) -> dict[OperatingPoint, float]:
    """Of the gates' points those a bundle was shipped with: a threshold fixed elsewhere answers another question."""
    stated, fixed = read_thresholds(folder), read_points(folder)
    points = {gate.point for gate in gates if gate.point is not None}
    return {
        point: stated[point.label]
        for point in points
        if point.label in stated and fixed.get(point.label) == point.words
    }


def is_answered(gate: Gate) -> bool:
    """Whether a gate is on answers as the bundle gives them, and not on probabilities or a threshold of its own."""
    return gate.point is None and gate.metric.startswith(ANSWERED)


def by_thresholds(score: Score, side: Contender, rows: pa.Table) -> Score:
    """The score with the answers that `edgeft run` gives of this side: by its frozen thresholds, where there are any,
    instead of the likeliest label's."""
    import numpy as np

    from edgeft.data.table import column_array
    from edgeft.tasks.classification import decide, macro_f1
    from edgeft.tasks.image_multilabel import EVEN

    least = side.reading.thresholds if side.reading is not None else {}
    if not least or score.probabilities is None:
        return score
    if score.present is not None:
        called = score.probabilities >= np.array([least.get(label, EVEN) for label in score.labels])
        right = called == score.present
        places = called.astype(np.int64) @ (1 << np.arange(len(score.labels), dtype=np.int64))
        each = np.asarray(right.mean(axis=1), dtype=np.float64)
        values = {LABEL_ACCURACY: float(each.mean()), "accuracy": float(right.all(axis=1).mean())}
        return replace(
            score, metrics={**score.metrics, **values}, correct=right.all(axis=1), predictions=places, called=called,
            cases={**score.cases, LABEL_ACCURACY: each},
        )  # fmt: skip
    truth = column_array(rows, "label")
    predictions = np.array([decide(row, score.labels, least) for row in score.probabilities], dtype=np.int64)
    confusion, correct = np.zeros_like(score.confusion), predictions == truth
    np.add.at(confusion, (truth, predictions), 1)
    values = {"accuracy": float(correct.mean()), "macro_f1": macro_f1(confusion)}
    return replace(
        score, metrics={**score.metrics, **values}, correct=correct, predictions=predictions, confusion=confusion
    )  # fmt: skip
