"""Order-statistic intervals against published tables, and what autocorrelation does to them."""

from __future__ import annotations

import numpy as np
import pytest

from edgeft.device.quantiles import effective_size, interval_ranks, quantile, quantile_interval


@pytest.mark.parametrize(
    ("n", "ranks"),
    [
        (5, None),
        (6, (1, 6)),
        (8, (1, 8)),
        (9, (2, 8)),
        (10, (2, 9)),
        (12, (3, 10)),
        (15, (4, 12)),
        (20, (6, 15)),
        (25, (8, 18)),
    ],
)
def test_median_ranks_are_the_published_ones(n: int, ranks: tuple[int, int] | None) -> None:
    """95% ranks for the median: Dixon and Massey, Introduction to Statistical Analysis, table A-25 (sign test)."""
    assert interval_ranks(n, 0.5, 0.95) == ranks


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [64, 300, 1024])
def test_ranks_hold_what_they_promise_and_no_narrower_ones_do(n: int, q: float) -> None:
    from scipy.stats import binom

    ranks = interval_ranks(n, q, 0.95)
    if ranks is None:
        assert binom.sf(n - 1, n, q) > 0.025, "the largest sample is not above the quantile often enough"
        return
    low, high = ranks
    assert binom.cdf(low - 1, n, q) <= 0.025 < binom.cdf(low, n, q)
    assert binom.sf(high - 1, n, q) <= 0.025 < binom.sf(high - 2, n, q)


def test_small_runs_have_no_p99_interval() -> None:
    assert quantile_interval(list(range(64)), 0.99)[0] is None
    assert interval_ranks(1024, 0.99, 0.95) is not None


def test_quantile_is_an_observed_value() -> None:
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert quantile([5.0], 0.99) == 5.0
    assert quantile(list(range(1, 101)), 0.9) == 90


def test_coverage_on_independent_runs() -> None:
    random = np.random.default_rng(0)
    truth = np.exp(1.2815515655446004)
    hits = 0
    for _ in range(300):
        interval, _ = quantile_interval(list(np.exp(random.standard_normal(200))), 0.9)
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert hits >= 277  # 95% of 300, less three standard errors


def test_autocorrelated_runs_count_for_fewer_and_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    noise = random.standard_normal(2000)
    series = np.zeros(2000)
    for index in range(1, 2000):
        series[index] = 0.95 * series[index - 1] + noise[index]
    shuffled = random.permutation(series)
    assert effective_size(list(shuffled), 0.5) > 1400
    assert effective_size(list(series), 0.5) < 300
    wide, _ = quantile_interval(list(series), 0.5)
    narrow, _ = quantile_interval(list(shuffled), 0.5)
    assert wide is not None and narrow is not None
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_runs_too_alike_give_the_whole_range() -> None:
    series = [1.0 + index * 1e-6 for index in range(500)] + [9.0 + index * 1e-6 for index in range(500)]
    interval, worth = quantile_interval(series, 0.5)
    assert worth < 6 and interval == (min(series), max(series))
