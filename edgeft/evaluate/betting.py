"""Bounds for the mean of bounded values, valid for every distribution and every n: betting confidence bounds.

Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86 (arXiv 2010.09686),
section 4 and theorem 3: the capital of a gambler who bets against "the mean is m" stays below 1/alpha with probability
1 - alpha while m is true (Ville's inequality), so every m at which it does not is refuted at alpha. Bets are the
predictable plug-in of their equation 26 for a fixed n, one-sided, truncated at TRUNCATION of what m allows.

Why this one: on Dice differences of which a few are large, the percentile bootstrap and Wilcoxon's test pass what is
worse than the margin far more often than alpha says; this bound cannot.
"""

from __future__ import annotations

from functools import lru_cache
from math import log
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.statistics import NEEDED_CAP, Bound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TRUNCATION = 0.75
"""Share of the capital that a bet may lose at worst: the paper's c, for which it proposes 1/2 or 3/4."""
STEPS = 60
"""Bisections of [0, 1]: far below the rounding of the capital."""


def lower_mean(values: Floats, alpha: float) -> float:
    """Lower bound, one-sided at alpha, of the mean of independent values in [0, 1] of one mean. Their order matters
    (bets follow what came before) and must not depend on the values."""
    import numpy as np

    n = len(values)
    if n == 0:
        return 0.0
    bets = _bets(values, alpha)
    goal = log(1 / alpha)

    def refuted(m: float) -> bool:
        stakes = np.minimum(bets, TRUNCATION / m) if m > 0 else bets
        return bool(np.cumsum(np.log1p(stakes * (values - m))).max() >= goal)

    low, high = 0.0, 1.0
    if not refuted(1e-12):
        return 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def bound_mean(values: Floats, units: NDArray[Any], alpha: float, *, low: float = 0.0, high: float = 1.0) -> Bound:
    """Bounds, each one-sided at alpha, of the mean over units of values in [low, high].

    values: (n,) per case; units: (n,) labels of what was sampled independently: a unit counts once, with the mean of
    its cases. estimate: the mean of the unit means. ValueError for a value outside [low, high].
    """
    import numpy as np

    if len(values) and not (values.min() >= low - 1e-9 and values.max() <= high + 1e-9):
        raise ValueError(f"values outside {low:g} to {high:g}")
    means = unit_means(values, units)
    scaled = np.clip((means - low) / (high - low), 0.0, 1.0)
    width = high - low
    lower = low + width * lower_mean(scaled, alpha)
    upper = high - width * lower_mean(1 - scaled, alpha)
    method = f"betting bound (Waudby-Smith & Ramdas 2024) on {len(means)} unit means in [{low:g}, {high:g}]"
    return Bound(float(means.mean()), lower, upper, len(values), float(len(means)), method)


def unit_means(values: Floats, units: NDArray[Any]) -> Floats:
    """(m,) mean of each unit's values, in the order in which units first occur."""
    import numpy as np

    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    means = np.bincount(inverse, weights=values) / np.bincount(inverse)
    return np.asarray(means[np.argsort(first)], dtype=np.float64)


@lru_cache(maxsize=64)
def units_at_best(room: float, alpha: float) -> int | None:
    """Smallest number of units whose values are all at their best (no difference, or all 1) that shows a mean within
    `room` of it, where room is a share of the values' range; None above NEEDED_CAP.

    A difference in [-1, 1] is at its best in the middle of the range, and its room is half the margin.
    """
    return _first_n(1.0, room, alpha)


@lru_cache(maxsize=64)
def units_without_loss(margin: float, alpha: float) -> int | None:
    """The same for paired differences in [-1, 1] that are all 0."""
    return _first_n(0.5, margin / 2, alpha)


def _first_n(value: float, room: float, alpha: float) -> int | None:
    import numpy as np

    def shows(n: int) -> bool:
        return value - lower_mean(np.full(n, value), alpha) <= room

    high = 1
    while not shows(high):
        high *= 2
        if high > min(NEEDED_CAP, 1 << 20):
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


def _bets(values: Floats, alpha: float) -> Floats:
    """(n,) predictable plug-in bets: sqrt(2 log(1/alpha) / (n variance so far)), with a prior of one value at 1/2."""
    import numpy as np

    n = len(values)
    count = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(values)) / (count + 1)
    spread = (0.25 + np.cumsum((values - means) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], spread[:-1]])
    return np.asarray(np.sqrt(2 * log(1 / alpha) / (n * before)), dtype=np.float64)
