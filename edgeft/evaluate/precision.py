"""Average precision and perplexity: metrics for which no bound is exact. Both are decided by the bootstrap with an
unseen unit, and their verdicts say "approximate"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate.auc import check_classes
from edgeft.evaluate.statistics import Bound, Undecidable
from edgeft.evaluate.unseen import bound_by_weights, bound_with_unseen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Units = NDArray[Any]


def average_precision(scores: Floats, positive: Bools) -> float:
    """Sum over thresholds of precision times the recall gained there: scikit-learn's average_precision_score.

    scores: (n,) float64, higher for positives; positive: (n,) bool. Undecidable where a class is absent.
    """
    import numpy as np

    check_classes(positive, scores)
    return float(_Ranking(scores, positive).precision(np.ones((1, len(scores))))[0])


def bound_average_precision(scores: Floats, positive: Bools, units: Units, alpha: float) -> Bound:
    """Bounds, each one-sided at alpha. The unseen unit is a positive that is found last (low) or first (high)."""
    check_classes(positive, scores)
    bound = bound_by_weights(_Ranking(scores, positive).precision, units, alpha, scale=1 / float(positive.mean()))
    return _clipped(bound, 0.0)


def bound_average_precision_loss(
    source: Floats, artefact: Floats, positive: Bools, units: Units, alpha: float
) -> Bound:
    """Bounds, each one-sided at alpha, of the average precision of the source less that of the artefact."""
    check_classes(positive, source, artefact)
    before, after = _Ranking(source, positive), _Ranking(artefact, positive)

    def loss(weights: Floats) -> Floats:
        return before.precision(weights) - after.precision(weights)

    return _clipped(bound_by_weights(loss, units, alpha, scale=1 / float(positive.mean())), -1.0)


def bound_perplexity(losses: Floats, tokens: Floats, units: Units, alpha: float) -> Bound:
    """Bounds, each one-sided at alpha, of exp(sum of losses / sum of tokens).

    losses: (n,) negative log-likelihoods of rows, natural logarithm, summed over the row's tokens; tokens: (n,) > 0.
    A loss has no upper end: the unseen unit counts as the worst one seen, so nothing here speaks for worse ones.
    """
    import numpy as np

    return bound_with_unseen(_checked(tokens, losses), lambda sums: np.exp(_rate(sums, 0)), units, alpha, scale=0.0)


def bound_perplexity_rise(source: Floats, artefact: Floats, tokens: Floats, units: Units, alpha: float) -> Bound:
    """Bounds, each one-sided at alpha, of the perplexity of the artefact less that of the source, on the same rows."""
    import numpy as np

    def rise(sums: Floats) -> Floats:
        return np.asarray(np.exp(_rate(sums, 1)) - np.exp(_rate(sums, 0)), dtype=np.float64)

    return bound_with_unseen(_checked(tokens, source, artefact), rise, units, alpha, scale=0.0)


class _Ranking:
    """Rows in falling order of score, and for each positive where its group of tied scores ends."""

    def __init__(self, scores: Floats, positive: Bools) -> None:
        import numpy as np

        self.order = np.argsort(-scores, kind="stable")
        falling = scores[self.order]
        self.positives = self.order[positive[self.order]]
        self.ends = np.searchsorted(-falling, -scores[self.positives], side="right") - 1
        self.found = np.searchsorted(self.ends, self.ends, side="right") - 1

    def precision(self, weights: Floats) -> Floats:
        """(draws,) average precision with (draws, n) weights of rows."""
        import numpy as np

        seen = np.cumsum(weights[:, self.order], axis=1)[:, self.ends]
        gained = weights[:, self.positives]
        found = np.cumsum(gained, axis=1)
        ratio = found[:, self.found] / seen
        return np.asarray(np.einsum("ij,ij->i", gained, ratio) / found[:, -1], dtype=np.float64)


def _rate(sums: Floats, at: int) -> Floats:
    return sums[..., 1 + at] / sums[..., 0]


def _checked(tokens: Floats, *losses: Floats) -> Floats:
    """(n, 1 + models) columns. Undecidable where a loss is not finite or a row has no token."""
    import numpy as np

    rows = np.stack([tokens, *losses], axis=1)
    if not np.isfinite(rows).all() or not len(rows) or tokens.min() <= 0:
        raise Undecidable("a loss is not a finite number, or a row has no token")
    return rows


def _clipped(bound: Bound, floor: float) -> Bound:
    low, high = max(floor, bound.low), min(1.0, bound.high)
    return Bound(bound.estimate, low, high, bound.n, bound.effective, bound.method)
