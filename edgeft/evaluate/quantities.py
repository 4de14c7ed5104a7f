"""Which quantity a gate is decided on: by its metric, after the scores have been looked at."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.kinds import means, probabilities, rates
from edgeft.evaluate.quantity import Quantity as Quantity
from edgeft.evaluate.statistics import Undecidable
from edgeft.metric_names import FLIP_RATE, RANKING_FAMILIES, RATE_FAMILIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.task import Score

    Indices = NDArray[np.int64]
    Units = NDArray[Any]

SAME_RATE = 1e-6
"""A float32 mean of some thousand cases is this close to the float64 one; one case in a million moves it as much."""


def quantity_for(
    gate: Gate, artefact: Score, source: Score | None, units: Units, truth: Indices | None, custom: CustomValues | None
) -> Quantity:
    """The quantity of a data gate. Undecidable where none can be had; ValueError for arrays of different cases.

    source: the scores of what the gate compares with, the source or a released bundle.
    """
    _check_cases(artefact, source, units, truth)
    if gate.no_worse_than and source is None:
        raise Undecidable(f"the {gate.baseline} was not evaluated on the gate set")
    _check_finite(gate.values, artefact, source)
    if gate.metric == "accuracy":
        return rates.accuracy(gate, artefact, source, units)
    if gate.metric == FLIP_RATE:
        return rates.flip_rate(gate, artefact, source, units)
    if gate.metric == "macro_f1":
        return means.macro_f1_mean(gate, artefact, source, units, truth)
    if gate.metric.startswith(RATE_FAMILIES):
        return rates.class_rate(gate, artefact, source, units, truth)
    if gate.metric.startswith(RANKING_FAMILIES):
        return probabilities.ranking(gate, artefact, source, units, truth)
    if gate.metric == "ece":
        return probabilities.calibration_error(gate, artefact, source, units)
    if gate.values in artefact.cases:
        return means.case_mean(gate, artefact, source, units)
    return means.own_metric(gate, units, custom)


def _check_cases(artefact: Score, source: Score | None, units: Units, truth: Indices | None) -> None:
    n = len(artefact.correct)
    lengths = [len(units), len(artefact.predictions)]
    lengths += [len(source.correct), len(source.predictions)] if source else []
    lengths += [len(truth)] if truth is not None else []
    if any(length != n for length in lengths):
        raise ValueError(f"arrays of different cases: {[n, *lengths]}")
    if n == 0:
        raise Undecidable("the gate set is empty")


def _check_finite(metric: str, *scores: Score | None) -> None:
    for score in scores:
        if score is None:
            continue
        if not isfinite(score.metrics.get(metric, 0.0)):
            raise Undecidable("the score is not a finite number")
        rate = float(score.correct.mean())
        if abs(score.metrics.get("accuracy", rate) - rate) > SAME_RATE:
            raise Undecidable("the score's accuracy is not that of its cases")
