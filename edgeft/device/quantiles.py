"""Quantiles of latencies with intervals that assume no distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def quantile(samples: Sequence[float], q: float) -> float:
    """The smallest sample that at least a fraction q of the samples do not exceed (inverse of the empirical CDF)."""
    from math import ceil

    ordered = sorted(samples)
    return float(ordered[max(0, ceil(q * len(ordered) - 1e-9) - 1)])


def interval_ranks(n: float, q: float, confidence: float) -> tuple[int, int] | None:
    """1-based ranks (l, u) of order statistics that hold the q-quantile with at least `confidence`, equal-tailed.

    P(X_(l) <= x_q <= X_(u)) = P(l <= B < u) with B ~ Binomial(n, q): Conover, Practical Nonparametric Statistics, 3rd
    ed., 3.2. For the median at 95%, n=10 gives (2, 9) and n=20 (6, 15). None where n is too small for both ends.
    """
    from scipy.stats import binom

    size, tail = int(n), (1 - confidence) / 2
    if size < 1:
        return None
    low = int(binom.ppf(tail, size, q))
    while low > 0 and binom.cdf(low - 1, size, q) > tail:
        low -= 1
    high = int(binom.ppf(1 - tail, size, q)) + 1
    while binom.sf(high - 1, size, q) > tail:
        high += 1
    return (low, high) if low >= 1 and high <= size else None


def effective_size(samples: Sequence[float], q: float) -> float:
    """How many independent runs the series is worth for its q-quantile, at most n.

    Neighbouring runs share the machine's state: they are not independent, and a plain binomial interval is too narrow.
    n / tau, tau the integrated autocorrelation of the indicator x <= x_q, summed over pairs while positive
    (Geyer 1992, initial positive sequence; Vehtari et al. 2021 for quantiles).
    """
    import numpy as np

    below = (np.asarray(samples, dtype=np.float64) <= quantile(samples, q)).astype(np.float64)
    n, centred = len(below), below - below.mean()
    variance = float(centred @ centred) / n
    if n < 8 or variance == 0:
        return float(n)
    rho = _autocorrelation(centred, n // 2) / variance
    tau = 1.0
    for lag in range(1, len(rho) - 1, 2):
        pair = float(rho[lag] + rho[lag + 1])
        if pair <= 0:
            break
        tau += 2 * pair
    return n / max(1.0, tau)


def _autocorrelation(centred: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    import numpy as np

    n = len(centred)
    spectrum = np.fft.rfft(centred, 2 * n)
    full = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)
    return np.asarray(full[:lags] / n, dtype=np.float64)


def quantile_interval(
    samples: Sequence[float], q: float, confidence: float = 0.95
) -> tuple[tuple[float, float] | None, float]:
    """((low, high) or None where there are too few runs, effective number of runs).

    Where n would do but its runs are so alike that their effective number does not, the whole observed range is given:
    wide, yet enough for a limit far off.
    """
    from math import ceil, floor

    n, worth = len(samples), effective_size(samples, q)
    ranks = interval_ranks(worth, q, confidence)
    if ranks is None:
        enough = interval_ranks(n, q, confidence) is not None
        return ((min(samples), max(samples)) if enough else None), worth
    ordered, scale = sorted(samples), n / int(worth)
    low = max(1, floor(ranks[0] * scale))
    high = min(n, ceil(ranks[1] * scale))
    return (float(ordered[low - 1]), float(ordered[high - 1])), worth
