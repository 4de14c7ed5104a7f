"""Exact bounds for rates, also when rows come in clusters; those for a loss are in unconditional.py.

Every bound is one-sided at `alpha`: a pair (low, high) covers with 1 - 2 alpha two-sided. Cases are rows; `units` are
what was sampled independently (patients, documents): rows of one unit may be alike, and then they count for less.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, expm1, log, log1p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEEDED_CAP = 10_000_000
"""Searches for a needed number of cases stop here: nobody labels more for one gate."""


class Undecidable(Exception):
    """Why no bound can be given; a gate on it then fails closed."""


@dataclass(frozen=True)
class Bound:
    """An estimate with its one-sided bounds; n cases count as much as `effective` independent ones."""

    estimate: float
    low: float
    high: float
    n: int
    effective: float
    method: str


def clopper_pearson(hits: float, n: float, alpha: float) -> tuple[float, float]:
    """Exact bounds of a binomial rate, each one-sided at alpha. Clopper & Pearson 1934, Biometrika 26.

    hits and n may be fractional (an effective sample size); then the beta quantiles interpolate.
    """
    from scipy.special import betaincinv  # what scipy.stats.beta.ppf calls; scipy.stats takes 0.4 s to import

    low = 0.0 if hits <= 0 else float(betaincinv(hits, n - hits + 1, alpha))
    high = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - alpha))
    return low, high


def unseen_rate(n: float, alpha: float) -> float:
    """Highest rate that n cases without a single event leave possible: 1 - alpha**(1/n).

    The exact form of the rule of three, Hanley & Lippman-Hand 1983, JAMA 249.
    """
    return -expm1(log(alpha) / n)


def count_unseen(rate: float, alpha: float) -> int:
    """Smallest n for which `unseen_rate(n, alpha) <= rate`; rate in (0, 1)."""
    return max(1, ceil(log(alpha) / log1p(-rate) - 1e-12))


def design_effect(hits: NDArray[np.bool_], units: NDArray[Any]) -> float:
    """Variance of the rate with rows clustered in units over its binomial variance, at least 1.

    hits: (n,) bool; units: (n,) labels. Ratio estimator of Cochran 1977, Sampling Techniques, pp. 32 and 66, with the
    factor m / (m - 1) for m units; the quotient as in Rao & Scott 1992, Biometrics 48. 1.0 when the rate is 0 or 1:
    the data then say nothing about clustering (see `bound_rate` for what is done about it).
    """
    import numpy as np

    n, rate = len(hits), float(np.mean(hits))
    _, inverse, sizes = np.unique(units, return_inverse=True, return_counts=True)
    count = len(sizes)
    if count == n or rate in (0.0, 1.0):
        return 1.0
    if count == 1:
        return float(n)
    residuals = np.bincount(inverse, weights=hits.astype(np.float64)) - rate * sizes
    clustered = count / (count - 1) * float(residuals @ residuals) / n**2
    return max(1.0, clustered / (rate * (1 - rate) / n))


def effective_size(hits: NDArray[np.bool_], units: NDArray[Any], alpha: float) -> float:
    """Independent cases that the clustered rows are worth, at most n: n / deff x (t_{n-1} / t_{m-1})^2.

    Korn & Graubard 1998, Survey Methodology 24, with the t adjustment for m units; quantiles at 1 - alpha.
    """
    import numpy as np
    from scipy.special import stdtrit

    n, count = len(hits), len(np.unique(units))
    if count == n:
        return float(n)
    if count == 1:
        return 1.0
    adjustment = float(stdtrit(n - 1, 1 - alpha) / stdtrit(count - 1, 1 - alpha)) ** 2
    return max(1.0, min(float(n), n / design_effect(hits, units) * adjustment))


def bound_rate(hits: NDArray[np.bool_], units: NDArray[Any], alpha: float) -> Bound:
    """Bounds of a rate over rows that come in units.

    hits: (n,) bool; units: (n,) labels; n >= 1. One row per unit: exact Clopper-Pearson. Several: Korn & Graubard's
    adjusted form. It knows nothing of events that strike whole units and have not struck yet (at a rate of 0 it would
    count every row as independent), so the upper bound is never below what m units without an event leave possible,
    and the lower bound never above its mirror image.
    """
    import numpy as np

    n, count = len(hits), len(np.unique(units))
    rate = float(np.mean(hits))
    size = effective_size(hits, units, alpha)
    low, high = clopper_pearson(rate * size, size, alpha)
    if count < n:
        unseen = unseen_rate(count, alpha)
        low, high = min(low, 1 - unseen), max(high, unseen)
    return Bound(rate, low, high, n, size, _rate_method(count, n))


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided p-value of the exact conditional McNemar test (McNemar 1947, Psychometrika 12). For information:
    a large p is no evidence of equality and never a reason to pass."""
    from scipy.special import bdtr

    if lost + gained == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5)))


def _rate_method(units: int, n: int) -> str:
    return "exact Clopper-Pearson" if units == n else f"Korn-Graubard adjusted Clopper-Pearson ({units} units)"
