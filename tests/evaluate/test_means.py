"""Sign flips, the bootstrap-t and the tail gate against published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from edgeft.evaluate.means import bootstrap_t, bound_tail, sign_flip
from edgeft.evaluate.statistics import clopper_pearson

# Darwin 1876, heights of 15 pairs of Zea mays, crossed less self-fertilised, in eighths of an inch.
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=np.float64)
# Efron & Tibshirani 1993, Table 2.1: survival of the mice of the control group, days.
MICE = np.array([52, 104, 146, 10, 50, 31, 40, 27, 46], dtype=np.float64)


def test_sign_flips_give_fishers_count() -> None:
    """The Design of Experiments, section 21: 863 of the 32,768 patterns reach the sum of 314, as many fall to -314."""
    assert DARWIN.sum() == 314
    assert sign_flip(DARWIN, np.arange(15)) == 2 * 863 / 2**15


def test_random_patterns_agree_with_scipys() -> None:
    differences = np.random.default_rng(3).normal(0.3, 1, 40)
    ours = sign_flip(differences, np.arange(40))
    theirs = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(4)
    )
    assert ours == pytest.approx(theirs.pvalue, abs=0.01), "three standard errors of 10,000 patterns at p near 0.1"


def test_no_difference_is_no_alarm_and_a_large_one_is_never_certain() -> None:
    assert sign_flip(np.zeros(30), np.arange(30)) == 1.0
    assert 0 < sign_flip(np.ones(200), np.arange(200)) < 2e-4


def test_bootstrap_t_gives_the_interval_of_efron_and_tibshirani() -> None:
    """Section 12.5: 35.82 to 116.74 (90%) from 1,000 draws; the upper end, from the far quantile of nine values, moves
    by 2 from run to run. The normal interval ends at 78.1."""
    low, high = bootstrap_t(MICE, np.arange(9), 0.05)
    assert low == pytest.approx(35.82, abs=1.0)
    assert high == pytest.approx(116.74, abs=4.0)


def test_bootstrap_t_counts_units_and_knows_when_it_knows_nothing() -> None:
    once = bootstrap_t(MICE, np.arange(9), 0.05)
    assert bootstrap_t(np.repeat(MICE, 4), np.repeat(np.arange(9), 4), 0.05) == pytest.approx(once)
    assert np.isnan(bootstrap_t(np.zeros(50), np.arange(50), 0.05)).all()


def test_bootstrap_t_passes_too_often_on_heavy_tails() -> None:
    """Why it does not decide: at 50 cases of which 2% lose 0.3, it shows less than the true mean in a third."""
    random, runs, wrong = np.random.default_rng(0), 60, 0
    for seed in range(runs):
        losses = np.where(random.random(50) < 0.02, 0.3, 0.0) + random.normal(0, 0.002, 50)
        wrong += bootstrap_t(losses, np.arange(50), 0.05, seed=seed)[1] < 0.006
    assert wrong / runs > 0.2


def test_the_tail_gate_is_newcombes_clopper_pearson() -> None:
    """Newcombe 1998, Table I: 15 of 148, 95% two-sided: 0.0578 to 0.1617. A loss equal to the limit is not beyond it."""
    losses = np.concatenate([np.full(15, 0.3), np.full(20, 0.1), np.zeros(113)])
    bound = bound_tail(losses, 0.1, np.arange(148), 0.025)
    assert (bound.low, bound.high) == pytest.approx((0.0578, 0.1617), abs=5.1e-5)
    assert (bound.low, bound.high) == clopper_pearson(15, 148, 0.025)
    with pytest.raises(ValueError, match="finite"):
        bound_tail(np.array([0.0, float("nan")]), 0.1, np.arange(2), 0.05)
