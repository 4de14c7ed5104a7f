"""Gates on means of values per case, on macro-F1, and on a user's own metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate.betting import bound_mean
from edgeft.evaluate.bootstrap import macro_f1, macro_f1_sums
from edgeft.evaluate.custom import CustomValues, as_metric, bound_custom, mean_of
from edgeft.evaluate.f1 import bound_macro_f1, bound_macro_f1_loss
from edgeft.evaluate.flips import lost_and_gained
from edgeft.evaluate.kinds.rates import losing_rate
from edgeft.evaluate.quantity import Quantity, absolute, count_units, loss_of
from edgeft.evaluate.statistics import Undecidable
from edgeft.metric_names import lower_is_better

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.task import Score

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Units = NDArray[Any]


def case_mean(gate: Gate, artefact: Score, baseline: Score | None, units: Units) -> Quantity:
    """A mean of values per case, its loss, or the share of cases that lose too much.

    Values are in [0, 1]; where they have no largest one, none counts for more than the gate's `at_worst`: of a loss the
    difference is cut there, both ways, not the values, so that a bad source hides nothing.
    """
    alpha, ours = 1 - gate.confidence, artefact.cases[gate.values]
    worst = gate.at_worst or 1.0
    compared = gate.no_worse_than or gate.cases_losing is not None
    if not compared:
        return absolute(gate, bound_mean(cut(ours, gate), units, alpha, high=worst), count_units(units))
    if baseline is None or gate.values not in baseline.cases:
        raise Undecidable(f"its values of the {gate.baseline} were not computed")
    theirs = baseline.cases[gate.values]
    if gate.cases_losing is not None:
        return losing_rate(gate, ours, theirs, units)
    loss = ours - theirs if lower_is_better(gate.metric) else theirs - ours
    bound = bound_mean(cut(loss, gate), units, alpha, low=-worst, high=worst)
    return loss_of(gate, bound, float(ours.mean()), float(theirs.mean()), count_units(units))


def cut(values: Floats, gate: Gate) -> Floats:
    """None further from 0 than the gate's `at_worst`."""
    import numpy as np

    return values if gate.at_worst is None else np.clip(values, -gate.at_worst, gate.at_worst)


def macro_f1_mean(
    gate: Gate, artefact: Score, baseline: Score | None, units: Units, truth: Indices | None
) -> Quantity:  # fmt: skip
    """Macro-F1, or its loss, by the bootstrap over units with an unseen case of the class that would cost most."""
    if truth is None:
        raise Undecidable("the true labels were not given")
    alpha, classes, ours = 1 - gate.confidence, len(artefact.confusion), artefact.predictions
    if not gate.no_worse_than or baseline is None:
        return absolute(gate, bound_macro_f1(truth, ours, classes, units, alpha), count_units(units))
    theirs = baseline.predictions
    bound = bound_macro_f1_loss(truth, theirs, ours, classes, units, alpha)
    lost, gained = lost_and_gained(baseline, artefact)
    counts = (int(lost.sum()), int(gained.sum()))
    value, before = (float(macro_f1(macro_f1_sums(truth, given, classes).sum(axis=0))) for given in (ours, theirs))
    return loss_of(gate, bound, value, before, count_units(units), counts)


def own_metric(gate: Gate, units: Units, custom: CustomValues | None) -> Quantity:
    """A user's own metric: its mean, its loss, or the share of cases that lose too much."""
    if custom is None:
        raise Undecidable("its values were not computed")
    worst = gate.at_worst or 0.0
    if not worst and gate.cases_losing is None:
        raise Undecidable("how large its values can be is not known: the gate states no at_worst")
    alpha, count, n = 1 - gate.confidence, count_units(units), len(units)
    ours = as_metric(gate.metric, custom.artefact, n)
    if not gate.no_worse_than and gate.cases_losing is None:
        return absolute(gate, bound_custom(ours, None, units, alpha, worst), count)
    if custom.source is None:
        raise Undecidable(f"its value of the {gate.baseline} was not computed")
    theirs = as_metric(gate.metric, custom.source, n)
    if gate.cases_losing is not None:
        if callable(ours) or callable(theirs):
            raise Undecidable("it gives one number for all cases, not one per case")
        return losing_rate(gate, ours, theirs, units)
    bound = bound_custom(ours, theirs, units, alpha, worst)
    return loss_of(gate, bound, mean_of(ours, n), mean_of(theirs, n), count)
