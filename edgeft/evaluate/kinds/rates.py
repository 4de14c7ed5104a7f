"""Gates on rates: accuracy, sensitivity and specificity, cases that changed, cases that lost too much.

All of them are decided on the exact bounds of `statistics`; sensitivity is accuracy among the cases of one label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate.findings import finding_of, has_label, is_called
from edgeft.evaluate.needed import Clustering, rows_for_loss, rows_for_rate
from edgeft.evaluate.paired import mcnemar_midp, tango_interval
from edgeft.evaluate.quantity import Quantity, count_units, limit_of
from edgeft.evaluate.statistics import Undecidable, bound_rate
from edgeft.evaluate.unconditional import bound_loss
from edgeft.metric_names import FLIP_RATE, RATE_FAMILIES, lower_is_better

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.task import Score

    Hits = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Units = NDArray[Any]


def accuracy(gate: Gate, artefact: Score, baseline: Score | None, units: Units) -> Quantity:
    """The share of cases that are right, or its loss."""
    return hit_rate(gate, artefact.correct, baseline.correct if baseline else None, units)


def class_rate(
    gate: Gate, artefact: Score, baseline: Score | None, units: Units, truth: Indices | None
) -> Quantity:  # fmt: skip
    """sensitivity_LABEL: answered so among the cases of the label; specificity_LABEL: answered otherwise among the
    others; at the source's threshold where the gate has a point. Undecidable where there are no such cases."""
    place, label = finding_of(gate.metric, RATE_FAMILIES, artefact.labels)
    positive = gate.metric.startswith("sensitivity_")
    kept = has_label(artefact, truth, place) == positive
    among = f"{'labelled' if positive else 'not labelled'} '{label}'"
    if not kept.any():
        raise Undecidable(f"the gate set has no case {among}")

    def hits(score: Score) -> Hits:
        return np_array(is_called(score, place, gate.point)[kept] == positive)

    return hit_rate(gate, hits(artefact), hits(baseline) if baseline else None, units[kept], among)


def flip_rate(gate: Gate, artefact: Score, source: Score | None, units: Units) -> Quantity:
    """The share of cases whose answer is another than the source's."""
    if source is None:
        raise Undecidable(f"the {gate.baseline} was not evaluated on the gate set")
    return hit_rate(gate, np_array(artefact.predictions != source.predictions), None, units, name=FLIP_RATE)


def losing_rate(gate: Gate, ours: Floats, theirs: Floats, units: Units) -> Quantity:
    """The share of cases whose value is worse than the source's by more than `cases_losing`. ours, theirs: (n,)."""
    loss = ours - theirs if lower_is_better(gate.metric) else theirs - ours
    name = f"share of cases losing more than {gate.cases_losing:g}"
    return hit_rate(gate, np_array(loss > (gate.cases_losing or 0.0)), None, units, name=name)


def hit_rate(
    gate: Gate, hits: Hits, before: Hits | None, units: Units, among: str = "", name: str = ""
) -> Quantity:  # fmt: skip
    """A rate of hits, or its loss against the hits of what the gate compares with, on the same cases."""
    if gate.no_worse_than and before is not None:
        return _loss(gate, hits, before, units, among)
    alpha, (limit, upper) = 1 - gate.confidence, limit_of(gate)
    bound, count = bound_rate(hits, units, alpha), count_units(units)
    clustering = Clustering(bound.effective / bound.n, count / bound.n)
    rate, floor = (1 - bound.estimate, 1 - limit) if upper else (bound.estimate, limit)
    return Quantity(
        name=name or gate.subject,
        bound=bound,
        limit=limit,
        upper=upper,
        value=bound.estimate,
        units=count,
        needed=lambda: rows_for_rate(rate, floor, alpha, clustering),
        method=bound.method,
        among=among,
    )


def _loss(gate: Gate, hits: Hits, before: Hits, units: Units, among: str) -> Quantity:
    alpha, margin = 1 - gate.confidence, gate.margin or 0.0
    lost, gained = before & ~hits, hits & ~before
    bound, count = bound_loss(lost, gained, units, alpha), count_units(units)
    counts = (int(lost.sum()), int(gained.sum()))
    clustering = Clustering(bound.effective / bound.n, count / bound.n)
    return Quantity(
        name=f"loss of {gate.subject}",
        bound=bound,
        limit=margin,
        upper=True,
        value=float(hits.mean()),
        source=float(before.mean()),
        counts=counts,
        units=count,
        needed=lambda: rows_for_loss(counts[0] / bound.n, counts[1] / bound.n, margin, alpha, clustering),
        method=f"{bound.method}; for information only: {_told(counts, bound.n, count, alpha)}",
        among=among,
    )


def _told(counts: tuple[int, int], rows: int, units: int, alpha: float) -> str:
    """What the usual tests say, which decide nothing: they are approximate, or about equality."""
    p = f"McNemar's mid-p {mcnemar_midp(*counts):.2g}"
    if units < rows:
        return p
    low, high = tango_interval(*counts, rows, alpha)
    return f"Tango's interval {low:.4f} to {high:.4f}, {p}"


def np_array(hits: Any) -> Hits:
    """As (n,) bool."""
    import numpy as np

    return np.asarray(hits, dtype=bool)
