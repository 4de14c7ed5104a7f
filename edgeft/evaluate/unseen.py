"""Bounds for any metric by the bootstrap with one unit nobody has seen.

Rubin's Bayesian bootstrap (1981, Annals of Statistics 9) draws a weight for every unit instead of drawing units. Here
one more unit gets a weight as well, and stands for what the sample does not contain: it is charged at the metric's
full scale, against the gate. For the mean of bounded values this is the bound of Gaffke 2005 (Learned-Miller &
Thomas 2019, arXiv 1905.06208), which is Clopper & Pearson's for hits and misses; that it holds for every bounded
distribution is conjectured and has been searched for counterexamples, not proven. For other metrics it is checked by
simulation (`python -m bench gates`). Several rows of a unit share its weight (a cluster bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.statistics import Bound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 4000
FEWEST_DRAWS = 2000
BLOCK_ENTRIES = 2_000_000
MOST_ENTRIES = 20_000_000
"""With more units than MOST_ENTRIES / DRAWS fewer draws are taken, down to FEWEST_DRAWS."""


def bound_with_unseen(
    rows: Floats, statistic: Callable[[Floats], Floats], units: NDArray[Any], alpha: float, *, scale: float = 1.0
) -> Bound:
    """Bounds, each one-sided at alpha, of a statistic of sums over rows.

    rows: (n, k), added up within units; statistic: (..., k) weighted sums -> (...), the same for sums times a number.
    scale: how much one unit of weight 1 could change it; raised to what the most influential unit does. NaN where the
    statistic is not finite on some draw.
    """
    import numpy as np

    sums, count = sum_units(rows, units)
    total = sums.sum(axis=0)
    estimate = float(statistic(total))
    scale = max(scale, _influence(estimate, statistic(total - sums), count)) if count > 1 else scale
    low, high = [], []
    for weights, unseen in draw_weights(count):
        values = statistic(weights @ sums)
        low.append(values - unseen * scale)
        high.append(values + unseen * scale)
    ends = pick_bounds(np.concatenate(low), np.concatenate(high), alpha)
    return Bound(estimate, *ends, len(rows), float(count), describe(count))


def bound_by_weights(
    statistic: Callable[[Floats], Floats], units: NDArray[Any], alpha: float, *, scale: float = 1.0
) -> Bound:
    """The same for a statistic that is not one of sums: (draws, n) weights of rows -> (draws,)."""
    import numpy as np

    _, inverse = np.unique(units, return_inverse=True)
    count = int(inverse.max()) + 1
    alone = count == len(inverse)
    low, high = [], []
    for weights, unseen in draw_weights(count, width=len(inverse)):
        values = statistic(weights if alone else weights[:, inverse])
        low.append(values - unseen * scale)
        high.append(values + unseen * scale)
    estimate = float(statistic(np.ones((1, len(inverse))))[0])
    ends = pick_bounds(np.concatenate(low), np.concatenate(high), alpha)
    return Bound(estimate, *ends, len(inverse), float(count), describe(count))


def draw_weights(count: int, *, width: int = 0, seed: int = 0) -> Iterator[tuple[Floats, Floats]]:
    """Blocks of ((draws, count) exponential weights, (draws,) share of the unseen unit in them and its own).

    width: of the arrays that are made of them, where that is more than count.
    """
    import numpy as np

    random, draws = np.random.default_rng(seed), draws_for(count)
    extra = spread_exponentials(draws, seed=seed + 1)
    block = max(1, BLOCK_ENTRIES // (max(count, width) + 1))
    for start in range(0, draws, block):
        own = extra[start : start + block]
        weights = random.standard_exponential((len(own), count))
        yield weights, own / (own + weights.sum(axis=1))


def spread_exponentials(draws: int, *, seed: int) -> Floats:
    """(draws,) exponential values in random order, one from the middle of each of as many equal shares: what is seen
    without an event then has the bound of `statistics.unseen_rate`, not one that luck of the draw moved."""
    import numpy as np

    ranks = np.random.default_rng(seed).permutation(draws)
    return np.asarray(-np.log((ranks + 0.5) / draws), dtype=np.float64)


def draws_for(count: int) -> int:
    """Draws taken for this many units."""
    return int(min(DRAWS, max(FEWEST_DRAWS, MOST_ENTRIES // (count + 1))))


def pick_bounds(low: Floats, high: Floats, alpha: float) -> tuple[float, float]:
    """(alpha quantile of low, 1 - alpha quantile of high), each the outer of two neighbours; NaN where any is."""
    import numpy as np

    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return float("nan"), float("nan")
    return float(np.quantile(low, alpha, method="lower")), float(np.quantile(high, 1 - alpha, method="higher"))


def sum_units(rows: Floats, units: NDArray[Any]) -> tuple[Floats, int]:
    """((units, k) sums of (n, k) rows, number of units)."""
    import numpy as np

    _, inverse = np.unique(units, return_inverse=True)
    count = int(inverse.max()) + 1
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, inverse, rows)
    return sums, count


def describe(units: int) -> str:
    """The method's name in a verdict."""
    return f"approximate: Bayesian bootstrap over {units} units and an unseen one, {draws_for(units)} draws"


def _influence(estimate: float, without: Floats, count: int) -> float:
    """What the most influential unit changes, as if it had all the weight. without: the statistic less each unit."""
    import numpy as np

    finite = without[np.isfinite(without)]
    return float((count - 1) * np.abs(finite - estimate).max()) if len(finite) else 0.0
