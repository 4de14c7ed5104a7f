"""Approximate comparisons of two paired rates, told beside the exact bound that decides (unconditional.py)."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEPS = 100
"""Bisections of [-1, 1]: to the last bit."""


def tango_interval(lost: int, gained: int, n: int, alpha: float) -> tuple[float, float]:
    """Score bounds, each one-sided at alpha, of P(lost) - P(gained) from n pairs. Tango 1998, Statistics in Medicine
    17, equations 24 to 26.

    Approximate: with few flips it is too narrow (no flip in 268 cases gives an upper bound of 0.01, which a loss of
    0.01 leaves possible with probability 0.07), so it informs and does not decide. ValueError for impossible counts.
    """
    from scipy.special import ndtri

    if n < 1 or min(lost, gained) < 0 or lost + gained > n:
        raise ValueError(f"{lost} lost and {gained} gained of {n} pairs")
    z = float(ndtri(1 - alpha))
    estimate = (lost - gained) / n
    low = -1.0 if gained == n else _solve(lost, gained, n, z, -1.0, estimate)
    high = 1.0 if lost == n else _solve(lost, gained, n, -z, estimate, 1.0)
    return low, high


def tango_score(lost: int, gained: int, n: int, difference: float) -> float:
    """Score statistic of "P(lost) - P(gained) is `difference`", standard normal under it; decreasing in it."""
    return float(tango_scores(lost, gained, n, difference))


def tango_scores(lost: Any, gained: Any, n: int, difference: float) -> NDArray[np.float64]:
    """The same of many outcomes of n pairs: arrays of one shape. Without variance 0 at the estimate, else +-inf."""
    import numpy as np

    linear = (2 * n - lost + gained) * difference - lost - gained
    root = np.sqrt(np.maximum(0.0, linear**2 + 8 * n * gained * difference * (1 - difference)))
    restricted = np.maximum(max(0.0, -difference), (root - linear) / (4 * n))
    variance = n * (2 * restricted + difference * (1 - difference))
    distance = lost - gained - n * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(distance / np.sqrt(np.maximum(0.0, variance)), dtype=np.float64)
    return np.where(np.isnan(found), 0.0, found)


def mcnemar_midp(lost: int, gained: int) -> float:
    """Two-sided mid-p value of McNemar's test: the exact one less the probability of what was seen. Fagerland,
    Lydersen & Laake 2013, BMC Medical Research Methodology 13:91.

    For alarms ("these two differ"). A large p is no evidence of equality and never a reason to pass.
    """
    from scipy.special import bdtr, betaln

    n, fewer = lost + gained, min(lost, gained)
    if n == 0:
        return 1.0
    choices = -log(n + 1) - float(betaln(n - fewer + 1, fewer + 1))
    here = exp(choices - n * log(2))
    return 1 - here / 2 if lost == gained else min(1.0, 2 * float(bdtr(fewer, n, 0.5)) - here)


def _solve(lost: int, gained: int, n: int, goal: float, left: float, right: float) -> float:
    """The difference in [left, right] at which the score is `goal`."""
    for _ in range(STEPS):
        middle = (left + right) / 2
        if tango_score(lost, gained, n, middle) > goal:
            left = middle
        else:
            right = middle
    return (left + right) / 2
