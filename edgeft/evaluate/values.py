"""The plain value of a gated metric, without a bound: for the search set, where candidates are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.evaluate import calibration
from edgeft.evaluate.kinds.probabilities import column, confident, rank_value
from edgeft.evaluate.kinds.rates import finding_of
from edgeft.evaluate.statistics import Undecidable
from edgeft.gate import FLIP_RATE, RANKING_FAMILIES, RATE_FAMILIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.task import Score


def metric_value(metric: str, score: Score, source: Score, truth: NDArray[np.int64]) -> float | None:
    """The metric of these cases; None where it is not one of them or cannot be had, such as a user's own."""
    if metric in score.metrics:
        return score.metrics[metric]
    if metric in score.cases:
        return float(score.cases[metric].mean())
    if metric == FLIP_RATE:
        return float((score.predictions != source.predictions).mean())
    try:
        if metric == "ece":
            return calibration.ece(*confident(score))
        if metric.startswith(RANKING_FAMILIES):
            place, _ = finding_of(metric, RANKING_FAMILIES, score.labels)
            return rank_value(metric, column(score, place), truth == place)
        if metric.startswith(RATE_FAMILIES):
            place, _ = finding_of(metric, RATE_FAMILIES, score.labels)
            kept = (truth == place) == metric.startswith("sensitivity_")
            hits = (score.predictions == place) == metric.startswith("sensitivity_")
            return float(hits[kept].mean()) if kept.any() else None
    except Undecidable:
        return None
    return None
