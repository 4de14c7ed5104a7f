"""What the gates of a check ask of a score besides: values in mm, and the baseline's frozen thresholds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import StepError
from edgeft.gate import Gate, OperatingPoint
from edgeft.pipeline.judging.scoring import measured
from edgeft.ship.check.asking import Answered
from edgeft.ship.check.sides import Contender, Reading
from edgeft.ship.postprocess import read_points, read_thresholds
from edgeft.task import Score

if TYPE_CHECKING:
    import pyarrow as pa


def complete(
    answered: Answered,
    reading: Reading,
    baseline: Contender,
    rows: pa.Table,
    gates: Collection[Gate],
    note: Callable[[str], None],
) -> Score:
    """A side's score with what can be had; a gate on the rest cannot be decided, and `note` is told why.

    reading: the baseline's. Both sides are held at the thresholds that the baseline's bundle was shipped with.
    """
    thresholds = shipped_thresholds(baseline.bundle.folder, gates) if baseline.bundle is not None else {}
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
