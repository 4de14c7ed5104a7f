"""The bootstrap with an unseen unit: Clopper & Pearson's bound for hits and misses, and units that count once."""

from __future__ import annotations

import numpy as np
import pytest

from edgeft.evaluate.statistics import clopper_pearson, unseen_rate
from edgeft.evaluate.unseen import bound_by_weights, bound_with_unseen


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def rows(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones(len(values))], axis=1)


@pytest.mark.parametrize(("hits", "n"), [(0, 50), (2, 59), (3, 100), (12, 400)])
def test_for_hits_it_is_clopper_pearson(hits: int, n: int) -> None:
    """Gaffke 2005 gives exactly that; charging the unseen unit on top of the others instead of in their place adds at
    most the rate itself times its own share, and 4,000 draws move the quantile by 2%."""
    values = (np.arange(n) < hits).astype(float)
    expected = clopper_pearson(hits, n, 0.05)[1]
    found = bound_with_unseen(rows(values), mean, np.arange(n), 0.05).high
    assert 0.97 * expected < found < 1.05 * expected


def test_without_an_event_it_is_what_the_units_leave_possible() -> None:
    bound = bound_with_unseen(np.zeros((149, 1)), lambda sums: sums[..., 0], np.arange(149), 0.05)
    assert bound.high == pytest.approx(unseen_rate(149, 0.05), rel=0.01)
    assert bound.low == -bound.high and bound.estimate == 0


def test_it_holds_where_few_cases_lose_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """The named tails: 1-10% of 400 cases lose 0.3-0.6. 5% plus three standard errors of 300 runs is 8.8%."""
    monkeypatch.setattr("edgeft.evaluate.unseen.DRAWS", 500)
    random, n, runs = np.random.default_rng(7), 400, 300
    for share, loss in ((0.02, 0.6), (0.05, 0.3), (0.1, 0.6)):
        wrong = 0
        for _ in range(runs):
            values = np.where(random.random(n) < share, loss, 0.0)
            wrong += bound_with_unseen(rows(values), mean, np.arange(n), 0.05).high < share * loss
        assert wrong / runs <= 0.088, (share, loss)


def test_copied_rows_do_not_narrow_it_and_both_forms_agree() -> None:
    values = np.random.default_rng(1).random(60)
    once = bound_with_unseen(rows(values), mean, np.arange(60), 0.05)
    copied = bound_with_unseen(rows(np.repeat(values, 5)), mean, np.repeat(np.arange(60), 5), 0.05)
    weighed = bound_by_weights(lambda weights: weights @ values / weights.sum(axis=1), np.arange(60), 0.05)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), rel=1e-9)
    assert (weighed.low, weighed.high) == pytest.approx((once.low, once.high), rel=1e-9)


def test_a_statistic_without_a_value_has_no_bound() -> None:
    bound = bound_with_unseen(np.zeros((20, 1)), lambda sums: sums[..., 0] * np.nan, np.arange(20), 0.05)
    assert np.isnan(bound.low) and np.isnan(bound.high)


def test_the_unseen_unit_is_at_least_as_influential_as_the_worst_seen() -> None:
    """A ratio whose first unit changes it by 8 times the scale given."""
    values = np.concatenate([[8.0], np.zeros(99)])
    assert bound_with_unseen(rows(values), mean, np.arange(100), 0.05).high > clopper_pearson(1, 100, 0.05)[1] * 7.5
