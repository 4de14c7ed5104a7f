"""What a gate is decided on: a bound on the loss against the source or on the metric itself, and its limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.betting import bound_mean
from edgeft.evaluate.bootstrap import bound_from_sums, macro_f1, macro_f1_sums
from edgeft.evaluate.custom import CustomValues, as_metric, bound_custom, mean_of
from edgeft.evaluate.flips import lost_and_gained
from edgeft.evaluate.needed import Clustering, rows_for_loss, rows_for_rate, rows_for_width
from edgeft.evaluate.statistics import Bound, Undecidable, bound_loss, bound_rate, mcnemar_exact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.task import Score

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Units = NDArray[Any]


SAME_RATE = 1e-6
"""A float32 mean of some thousand cases is this close to the float64 one; one case in a million moves it as much."""


@dataclass(frozen=True)
class Quantity:
    """bound against limit; upper: it may not be above the limit (a loss), otherwise not below (an absolute value).

    value, source: the metric as people know it. counts: (lost, gained) where cases flip. units: independent ones.
    """

    name: str
    bound: Bound
    limit: float
    upper: bool
    value: float
    units: int
    needed: Callable[[], int | None]
    method: str
    source: float | None = None
    counts: tuple[int, int] | None = None


def quantity_for(
    gate: Gate, artefact: Score, source: Score | None, units: Units, truth: Indices | None, custom: CustomValues | None
) -> Quantity:
    """The quantity of a data gate. Undecidable where none can be had; ValueError for arrays of different cases."""
    _check_cases(artefact, source, units, truth)
    if gate.no_worse_than and source is None:
        raise Undecidable("the source was not evaluated on the gate set")
    _check_finite(gate.metric, artefact, source)
    if gate.metric == "accuracy":
        return (
            _accuracy_loss(gate, artefact, source, units)
            if gate.no_worse_than and source
            else _accuracy(gate, artefact, units)
        )
    if gate.metric == "macro_f1":
        return _macro_f1(gate, artefact, source, units, truth)
    if gate.metric in artefact.cases:
        return _mean(gate, artefact, source, units)
    return _custom(gate, units, custom)


def _accuracy_loss(gate: Gate, artefact: Score, source: Score, units: Units) -> Quantity:
    lost, gained = lost_and_gained(source, artefact)
    alpha, margin = 1 - gate.confidence, gate.margin or 0.0
    bound = bound_loss(lost, gained, units, alpha)
    counts = (int(lost.sum()), int(gained.sum()))
    count = _count(units)
    clustering = Clustering(bound.effective / bound.n, count / bound.n)
    return Quantity(
        name="loss of accuracy",
        bound=bound,
        limit=margin,
        upper=True,
        value=float(artefact.correct.mean()),
        source=float(source.correct.mean()),
        counts=counts,
        units=count,
        needed=lambda: rows_for_loss(counts[0] / bound.n, counts[1] / bound.n, margin, alpha, clustering),
        method=f"{bound.method}; exact McNemar p = {mcnemar_exact(*counts):.2g} (information only)",
    )


def _accuracy(gate: Gate, artefact: Score, units: Units) -> Quantity:
    alpha, (limit, upper) = 1 - gate.confidence, _limit(gate)
    bound, count = bound_rate(artefact.correct, units, alpha), _count(units)
    clustering = Clustering(bound.effective / bound.n, count / bound.n)
    rate, floor = (1 - bound.estimate, 1 - limit) if upper else (bound.estimate, limit)
    return Quantity(
        name="accuracy",
        bound=bound,
        limit=limit,
        upper=upper,
        value=bound.estimate,
        units=count,
        needed=lambda: rows_for_rate(rate, floor, alpha, clustering),
        method=bound.method,
    )


def _macro_f1(gate: Gate, artefact: Score, source: Score | None, units: Units, truth: Indices | None) -> Quantity:
    import numpy as np

    if truth is None:
        raise Undecidable("the true labels were not given")
    classes = len(artefact.confusion)
    rows = macro_f1_sums(truth, artefact.predictions, classes)
    value = float(macro_f1(rows.sum(axis=0)))
    if not gate.no_worse_than or source is None:
        return _absolute(gate, bound_from_sums(rows, macro_f1, units, 1 - gate.confidence), _count(units))
    before = macro_f1_sums(truth, source.predictions, classes)

    def loss(sums: Floats) -> Floats:
        after, given = np.split(sums, 2, axis=-1)
        return macro_f1(given) - macro_f1(after)

    bound = bound_from_sums(np.concatenate([rows, before], axis=1), loss, units, 1 - gate.confidence)
    lost, gained = lost_and_gained(source, artefact)
    counts = (int(lost.sum()), int(gained.sum()))
    return _loss(gate, bound, value, float(macro_f1(before.sum(axis=0))), _count(units), counts)


def _mean(gate: Gate, artefact: Score, source: Score | None, units: Units) -> Quantity:
    """A mean of values per case in [0, 1], or its loss against the source, by the betting bound over units."""
    alpha, ours = 1 - gate.confidence, artefact.cases[gate.metric]
    if not gate.no_worse_than or source is None:
        return _absolute(gate, bound_mean(ours, units, alpha), _count(units))
    if gate.metric not in source.cases:
        raise Undecidable("its values of the source were not computed")
    theirs = source.cases[gate.metric]
    bound = bound_mean(theirs - ours, units, alpha, low=-1.0, high=1.0)
    return _loss(gate, bound, float(ours.mean()), float(theirs.mean()), _count(units), None)


def _custom(gate: Gate, units: Units, custom: CustomValues | None) -> Quantity:
    if custom is None:
        raise Undecidable("its values were not computed")
    alpha, count = 1 - gate.confidence, _count(units)
    ours = as_metric(gate.metric, custom.artefact, len(units))
    if not gate.no_worse_than:
        return _absolute(gate, bound_custom(ours, None, units, alpha), count)
    if custom.source is None:
        raise Undecidable("its value of the source was not computed")
    theirs = as_metric(gate.metric, custom.source, len(units))
    bound = bound_custom(ours, theirs, units, alpha)
    return _loss(gate, bound, mean_of(ours, len(units)), mean_of(theirs, len(units)), count, None)


def _loss(
    gate: Gate, bound: Bound, value: float, source: float, units: int, counts: tuple[int, int] | None
) -> Quantity:
    margin = gate.margin or 0.0
    _require_finite(bound)
    return Quantity(
        name=f"loss of {gate.metric}",
        bound=bound,
        limit=margin,
        upper=True,
        value=value,
        source=source,
        counts=counts,
        units=units,
        needed=lambda: rows_for_width(bound.n, bound.estimate, bound.high, margin),
        method=bound.method,
    )


def _absolute(gate: Gate, bound: Bound, units: int) -> Quantity:
    limit, upper = _limit(gate)
    _require_finite(bound)
    edge = bound.high if upper else bound.low
    return Quantity(
        name=gate.metric,
        bound=bound,
        limit=limit,
        upper=upper,
        value=bound.estimate,
        units=units,
        needed=lambda: rows_for_width(bound.n, bound.estimate, edge, limit),
        method=bound.method,
    )


def _limit(gate: Gate) -> tuple[float, bool]:
    """(limit, upper) of an absolute gate."""
    if gate.at_least is not None:
        return gate.at_least, False
    if gate.at_most is None:
        raise Undecidable("the gate has no limit")
    return gate.at_most, True


def _require_finite(bound: Bound) -> None:
    if not all(isfinite(x) for x in (bound.estimate, bound.low, bound.high)):
        raise Undecidable("it is not a finite number on every resample of the gate set")


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


def _count(units: Units) -> int:
    import numpy as np

    return len(np.unique(units))
