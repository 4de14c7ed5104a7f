"""The plain value of a gated metric, without a bound: for the search set, where candidates are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.evaluate import calibration
from edgeft.evaluate.findings import column, finding_of, has_label, is_called
from edgeft.evaluate.kinds.means import cut
from edgeft.evaluate.kinds.probabilities import confident, rank_value
from edgeft.evaluate.statistics import Undecidable
from edgeft.metric_names import FLIP_RATE, RANKING_FAMILIES, RATE_FAMILIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.task import Score


def metric_value(gate: Gate, score: Score, source: Score, truth: NDArray[np.int64]) -> float | None:
    """The gate's metric of these cases; None where it is not one of them or cannot be had, such as a user's own."""
    metric = gate.metric
    if gate.values in score.cases:
        return float(cut(score.cases[gate.values], gate).mean())
    if metric in score.metrics and gate.point is None:
        return score.metrics[metric]
    if metric == FLIP_RATE:
        return float((score.predictions != source.predictions).mean())
    try:
        if metric == "ece":
            return calibration.ece(*confident(score))
        if metric.startswith(RANKING_FAMILIES):
            place, _ = finding_of(metric, RANKING_FAMILIES, score.labels)
            return rank_value(metric, column(score, place), has_label(score, truth, place))
        if metric.startswith(RATE_FAMILIES):
            place, _ = finding_of(metric, RATE_FAMILIES, score.labels)
            kept = has_label(score, truth, place) == metric.startswith("sensitivity_")
            hits = is_called(score, place, gate.point) == metric.startswith("sensitivity_")
            return float(hits[kept].mean()) if kept.any() else None
    except Undecidable:
        return None
    return None
