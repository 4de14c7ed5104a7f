"""MLPerf's early stopping: a bound on a latency percentile from the queries at hand."""

from __future__ import annotations

from collections.abc import Sequence

PERCENTILE, CONFIDENCE, TOLERANCE = 0.90, 0.99, 0.0
"""SingleStream's, from the MLPerf inference rules."""


def discarded_queries(
    n: int, percentile: float = PERCENTILE, confidence: float = CONFIDENCE, tolerance: float = TOLERANCE
) -> int:
    """How many of n queries may be over a latency that then still bounds the percentile; 0 where n is too small.

    MLPerf inference rules, appendix "Early stopping" (Idgunji et al.): with t of n queries over a latency, the true
    share below it is at least `percentile` at `confidence` where the odds of t or fewer over-latency queries, if that
    share were only percentile - tolerance, are under 1 - confidence. Those odds are Binomial(n, 1 - percentile +
    tolerance) at most t; the largest such t counts. At 0.9 and 0.99 one query needs n = 64.
    """
    from scipy.stats import binom

    over = 1 - percentile + tolerance
    t = int(binom.ppf(1 - confidence, n, over)) + 1
    while t > 0 and binom.cdf(t, n, over) >= 1 - confidence:
        t -= 1
    return max(0, t)


def early_stopping_estimate(
    samples: Sequence[float],
    percentile: float = PERCENTILE,
    confidence: float = CONFIDENCE,
    tolerance: float = TOLERANCE,
) -> float | None:
    """The latency MLPerf reports for the percentile: the t-th largest of the samples; None where they are too few."""
    t = discarded_queries(len(samples), percentile, confidence, tolerance)
    return float(sorted(samples)[len(samples) - t]) if t else None
