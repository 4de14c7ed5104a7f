"""Areas under ROC curves: of one model, and the paired loss of one against another, also with several rows a unit.

DeLong's interval is normal: at an area of 1 it has no width, and where a few positives lose their whole rank it
passes too often. So it is told, and the bootstrap with unseen cases decides (bench/gates.py has the rates).
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.statistics import Bound, Undecidable
from edgeft.evaluate.unseen import describe, draw_weights, draws_for, pick_bounds, spread_exponentials

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Units = NDArray[Any]


def placements(scores: Floats, positive: Bools) -> Floats:
    """(n,) for a positive the share of negatives it outranks, for a negative the share of positives that outrank it,
    ties half: DeLong's V10 and V01. Their mean over either class is the area.

    scores: (n,) float64, higher for positives; positive: (n,) bool. Mid-ranks, O(n log n): Sun & Xu 2014, IEEE Signal
    Processing Letters 21. Undecidable where a class is absent or a score is not finite.
    """
    import numpy as np

    check_classes(positive, scores)
    overall, within = midranks(scores), np.empty(len(scores))
    within[positive], within[~positive] = midranks(scores[positive]), midranks(scores[~positive])
    others = overall - within
    m, n = int(positive.sum()), int((~positive).sum())
    return np.asarray(np.where(positive, others / n, 1 - others / m), dtype=np.float64)


def midranks(values: Floats) -> Floats:
    """(n,) ranks from 1, tied values sharing their mean rank."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def delong_variance(components: Floats, positive: Bools, units: Units) -> float:
    """Variance of the mean of placements, or of differences of two models' placements.

    One row per unit: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44. Several: Obuchowski 1997, Biometrics 53.
    Undecidable where a class comes from fewer than two units.
    """
    import numpy as np

    _, inverse = np.unique(units, return_inverse=True)
    area = float(components[positive].mean())
    m, n = int(positive.sum()), int((~positive).sum())
    centred = components - area
    tens = np.bincount(inverse, weights=np.where(positive, centred / m, 0.0))
    ones = np.bincount(inverse, weights=np.where(positive, 0.0, centred / n))
    holding_tens, holding_ones = len(np.unique(inverse[positive])), len(np.unique(inverse[~positive]))
    if min(holding_tens, holding_ones) < 2:
        raise Undecidable("positives or negatives come from fewer than two units")
    count = len(tens)
    return (
        holding_tens / (holding_tens - 1) * float(tens @ tens)
        + holding_ones / (holding_ones - 1) * float(ones @ ones)
        + 2 * count / (count - 1) * float(tens @ ones)
    )


def delong_interval(estimate: float, variance: float, alpha: float) -> tuple[float, float]:
    """Normal bounds, each one-sided at alpha. Undecidable at a variance of 0: they would claim certainty."""
    from scipy.special import ndtri

    if variance <= 0:
        raise Undecidable("DeLong's variance is 0")
    reach = float(ndtri(1 - alpha)) * sqrt(variance)
    return estimate - reach, estimate + reach


def bound_auc(scores: Floats, positive: Bools, units: Units, alpha: float) -> Bound:
    """Bounds, each one-sided at alpha, of the area. Undecidable where a class is absent."""
    components = placements(scores, positive)
    estimate = float(components[positive].mean())
    areas, unseen = _replicates((scores,), positive, units)
    seen = areas[0] * (1 - unseen)
    low, high = pick_bounds(seen, seen + unseen, alpha)
    return _bound(estimate, low, high, components, positive, units, alpha)


def bound_auc_loss(source: Floats, artefact: Floats, positive: Bools, units: Units, alpha: float) -> Bound:
    """Bounds, each one-sided at alpha, of the area of the source less that of the artefact, on the same rows."""
    components = placements(source, positive) - placements(artefact, positive)
    estimate = float(components[positive].mean())
    areas, unseen = _replicates((source, artefact), positive, units)
    loss = (areas[0] - areas[1]) * (1 - unseen)
    low, high = pick_bounds(loss - unseen, loss + unseen, alpha)
    return _bound(estimate, low, high, components, positive, units, alpha)


def check_classes(positive: Bools, *scores: Floats) -> None:
    """Undecidable where a class is absent or a score is not a finite number."""
    import numpy as np

    if positive.all() or not positive.any():
        raise Undecidable("the gate set has only one class")
    if not all(np.isfinite(given).all() for given in scores):
        raise Undecidable("a score is not a finite number")


class _Ranking:
    """Where every positive stands among the negatives, found once for all draws."""

    def __init__(self, scores: Floats, positive: Bools) -> None:
        import numpy as np

        down = np.flatnonzero(~positive)
        self.negatives = down[np.argsort(scores[down], kind="stable")]
        self.positives = np.flatnonzero(positive)
        ladder = scores[self.negatives]
        self.below = np.searchsorted(ladder, scores[self.positives], side="left")
        self.upto = np.searchsorted(ladder, scores[self.positives], side="right")

    def outranked(self, weights: Floats) -> Floats:
        """(draws,) weight of the pairs in which the positive is higher, ties half. weights: (draws, n) of rows."""
        import numpy as np

        under = np.zeros((len(weights), len(self.negatives) + 1))
        np.cumsum(weights[:, self.negatives], axis=1, out=under[:, 1:])
        reached = under[:, self.below]
        if (self.below != self.upto).any():
            reached = (reached + under[:, self.upto]) / 2
        return np.asarray(np.einsum("ij,ij->i", weights[:, self.positives], reached), dtype=np.float64)


def _replicates(models: tuple[Floats, ...], positive: Bools, units: Units) -> tuple[list[Floats], Floats]:
    """((draws,) areas per model, (draws,) share of the unseen unit in its class: the larger of an unseen unit of
    positives and one of negatives).

    One is enough: the skewness of an area's error is at most that of a mean over the class with fewer units.
    """
    import numpy as np

    _, inverse = np.unique(units, return_inverse=True)
    rankings = [_Ranking(scores, positive) for scores in models]
    per = [float(mask.sum()) / len(np.unique(inverse[mask])) for mask in (positive, ~positive)]
    count, start = int(inverse.max()) + 1, 0
    extras = np.stack([spread_exponentials(draws_for(count), seed=at) for at in (1, 2)], axis=1) * per
    areas: list[list[Floats]] = [[] for _ in models]
    unseen = []
    for weights, _ in draw_weights(count, width=len(inverse)):
        rows, extra = weights if count == len(inverse) else weights[:, inverse], extras[start : start + len(weights)]
        start += len(weights)
        mass = np.stack([rows @ positive, rows @ ~positive], axis=1)
        unseen.append((extra / (mass + extra)).max(axis=1))
        for at, ranking in enumerate(rankings):
            areas[at].append(ranking.outranked(rows) / mass.prod(axis=1))
    return [np.concatenate(parts) for parts in areas], np.concatenate(unseen)


def _bound(
    estimate: float, low: float, high: float, components: Floats, positive: Bools, units: Units, alpha: float
) -> Bound:
    """The bound with DeLong's, for information, in its method."""
    import numpy as np

    count = len(np.unique(units))
    try:
        told = delong_interval(estimate, delong_variance(components, positive, units), alpha)
        beside = f"DeLong's bounds, for information: {told[0]:.4f} to {told[1]:.4f}"
    except Undecidable as reason:
        beside = str(reason)
    return Bound(estimate, low, high, len(positive), float(count), f"{describe(count)}; {beside}")
