"""Gates on probabilities: calibration, and how one label's cases rank among the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate import auc, calibration, precision
from edgeft.evaluate.findings import column, finding_of, has_label, probabilities_of
from edgeft.evaluate.quantity import Quantity, absolute, count_units, loss_of
from edgeft.metric_names import RANKING_FAMILIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.task import Score

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Indices = NDArray[np.int64]
    Units = NDArray[Any]


def calibration_error(gate: Gate, artefact: Score, baseline: Score | None, units: Units) -> Quantity:
    """The expected calibration error of the answered label, or how much it rose."""
    alpha, count, ours = 1 - gate.confidence, count_units(units), confident(artefact)
    if not gate.no_worse_than or baseline is None:
        return absolute(gate, calibration.bound_ece(*ours, units, alpha), count)
    theirs = confident(baseline)
    bound = calibration.bound_ece_rise(theirs, ours, units, alpha)
    return loss_of(gate, bound, calibration.ece(*ours), calibration.ece(*theirs), count)


def ranking(gate: Gate, artefact: Score, baseline: Score | None, units: Units, truth: Indices | None) -> Quantity:
    """auroc_LABEL or average_precision_LABEL: the label's cases against all others, by its probability."""
    place, label = finding_of(gate.metric, RANKING_FAMILIES, artefact.labels)
    positive, ours = has_label(artefact, truth, place), column(artefact, place)
    alpha, count = 1 - gate.confidence, count_units(units)
    area = gate.metric.startswith("auroc_")
    among = f"({int(positive.sum()):,} of them labelled '{label}')"
    if not gate.no_worse_than or baseline is None:
        bound_one = auc.bound_auc if area else precision.bound_average_precision
        found = absolute(gate, bound_one(ours, positive, units, alpha), count)
    else:
        theirs = column(baseline, place)
        bound_two = auc.bound_auc_loss if area else precision.bound_average_precision_loss
        bound = bound_two(theirs, ours, positive, units, alpha)
        before, after = rank_value(gate.metric, theirs, positive), rank_value(gate.metric, ours, positive)
        found = loss_of(gate, bound, after, before, count)
    return found.among_these(among)


def rank_value(metric: str, scores: Floats, positive: Bools) -> float:
    """The area or the average precision of these scores. Undecidable where a class is absent."""
    if metric.startswith("auroc_"):
        return float(auc.placements(scores, positive)[positive].mean())
    return precision.average_precision(scores, positive)


def confident(score: Score) -> tuple[Floats, Bools]:
    """((n,) probability of the answered label, (n,) whether it was right)."""
    return probabilities_of(score).max(axis=1), score.correct
