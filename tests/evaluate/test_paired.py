"""Tango's interval, McNemar's mid-p and Holm's adjustment against published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from edgeft.evaluate.alarms import holm
from edgeft.evaluate.paired import mcnemar_midp, tango_interval, tango_score
from edgeft.evaluate.unconditional import bound_loss


@pytest.mark.parametrize(
    ("lost", "gained", "n", "low", "high"),
    [(1, 7, 21, -0.517, -0.026), (6, 16, 161, -0.1240, -0.0054)],
    ids=["Bentur 2009", "Cavo 2012"],
)
def test_tango_gives_the_published_intervals(lost: int, gained: int, n: int, low: float, high: float) -> None:
    """Fagerland, Lydersen & Laake 2017, Statistical Analysis of Contingency Tables, chapter 8 (95%, two-sided); the
    first is also in their 2014 paper, Statistics in Medicine 33."""
    decimals = 5.1e-4 if n == 21 else 5.1e-5
    assert tango_interval(lost, gained, n, 0.025) == pytest.approx((low, high), abs=decimals)


def test_tango_gives_what_r_gives() -> None:
    """PropCIs 0.3-0, scoreci.mp(25, 28, 618, conf.level = 0.90), which estimates (y - x) / n: -0.0148 to 0.0247."""
    assert tango_interval(28, 25, 618, 0.05) == pytest.approx((-0.0148, 0.0247), abs=5.1e-5)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 268), (3, 0, 50), (9, 4, 400), (50, 0, 50), (0, 7, 7)])
def test_tango_is_the_inverse_of_its_score_and_mirrors(lost: int, gained: int, n: int) -> None:
    low, high = tango_interval(lost, gained, n, 0.05)
    assert low <= (lost - gained) / n <= high
    assert tango_interval(gained, lost, n, 0.05) == pytest.approx((-high, -low), abs=1e-12)
    if high < 1:
        assert tango_score(lost, gained, n, high) == pytest.approx(-1.6449, abs=1e-4)


def test_why_tango_does_not_decide() -> None:
    """Without a flip in 268 cases it shows 0.01, which a true loss of 0.01 leaves possible with probability 0.068."""
    assert tango_interval(0, 0, 268, 0.05)[1] <= 0.01 < tango_interval(0, 0, 267, 0.05)[1]
    assert (1 - 0.01) ** 268 > 0.067
    none = np.zeros(268, bool)
    assert bound_loss(none, none, np.arange(268), 0.05).high > 0.01


@pytest.mark.parametrize(("lost", "gained", "n"), [(-1, 0, 5), (4, 4, 7), (0, 0, 0)])
def test_impossible_counts_are_refused(lost: int, gained: int, n: int) -> None:
    with pytest.raises(ValueError, match="pairs"):
        tango_interval(lost, gained, n, 0.05)


@pytest.mark.parametrize(("lost", "gained", "p"), [(1, 7, 0.0391), (6, 16, 0.034690), (0, 0, 1.0)])
def test_mid_p_is_the_published_one(lost: int, gained: int, p: float) -> None:
    """Fagerland, Lydersen & Laake 2013 (Bentur, 0.039) and their book of 2017, chapter 8 (Cavo, 0.034690)."""
    assert mcnemar_midp(lost, gained) == pytest.approx(p, abs=5e-5)


@pytest.mark.parametrize(("lost", "gained"), [(0, 3), (12, 40), (700, 800)])
def test_mid_p_is_that_of_scipys_binomial(lost: int, gained: int) -> None:
    n, fewer = lost + gained, min(lost, gained)
    half = binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5) / 2
    assert mcnemar_midp(lost, gained) == pytest.approx(min(1.0, 2 * half), rel=1e-9)
    assert mcnemar_midp(lost, gained) == mcnemar_midp(gained, lost)


def test_mid_p_of_equal_counts() -> None:
    """The supplement of the 2013 paper: then it is 1 less half the probability of the counts."""
    assert mcnemar_midp(5, 5) == pytest.approx(1 - binom.pmf(5, 10, 0.5) / 2)


def test_holm_gives_statsmodels_figures() -> None:
    """statsmodels 0.15.0, multipletests(method="holm"), in the order given."""
    found = holm([0.01, 0.04, 0.03, 0.005, 0.2, 0.03])
    assert found == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12], abs=1e-12)


def test_holm_by_hand() -> None:
    """Holm 1979: the smallest times 3, the next times 2, never below the one before, never above 1."""
    assert holm([0.5, 0.01, 0.6]) == pytest.approx([1.0, 0.03, 1.0])
    assert holm([]) == []
    with pytest.raises(ValueError, match="0 to 1"):
        holm([0.1, float("nan")])
