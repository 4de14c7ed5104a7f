"""Bounds against published numbers and against simulation."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import t

from edgeft.evaluate.needed import Clustering, rows_for_loss, rows_for_rate, rows_for_width
from edgeft.evaluate.statistics import (
    bound_rate,
    clopper_pearson,
    count_unseen,
    design_effect,
    effective_size,
    mcnemar_exact,
    unseen_rate,
)
from edgeft.evaluate.unconditional import bound_loss, most_lost, upper_difference

RUNS = 4000
ALPHA = 0.05
NOISE = 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5
"""Three standard errors of a simulated rate of 5%: a correct bound exceeds it once in 700 seeds, and the seed is fixed."""

# Weil 1970, Fd. Cosmet. Toxicol. 8: pups alive after 21 days of pups alive after 4, per litter of treated dams.
TREATED = [(12, 12), (11, 11), (10, 10), (9, 9), (10, 11), (9, 10), (9, 10), (8, 9), (8, 9), (4, 5), (7, 9), (4, 7)]
TREATED += [(5, 10), (3, 6), (3, 10), (0, 7)]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_clopper_pearson_gives_newcombes_table(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, Table I, method 5 (95% two-sided, four decimals printed)."""
    assert clopper_pearson(hits, n, 0.025) == pytest.approx((low, high), abs=5.1e-5)


def test_all_hits_mirror_no_hits() -> None:
    low, high = clopper_pearson(20, 20, 0.025)
    assert (low, high) == (pytest.approx(1 - 0.1684, abs=5.1e-5), 1.0)


@pytest.mark.parametrize(("rate", "n"), [(0.05, 59), (0.01, 299), (0.10, 29)])
def test_cases_needed_without_an_event_are_the_classical_ones(rate: float, n: int) -> None:
    """59, 299 and 29: the success-run sample sizes for 95% confidence (Wilks 1941; tabled in every reliability book)."""
    assert count_unseen(rate, 0.05) == n
    assert unseen_rate(n, 0.05) <= rate < unseen_rate(n - 1, 0.05)


@pytest.mark.parametrize(("lost", "gained", "p"), [(1, 7, 0.0703), (6, 16, 0.0525), (0, 0, 1.0), (5, 5, 1.0)])
def test_mcnemar_gives_the_published_p(lost: int, gained: int, p: float) -> None:
    """Fagerland, Lydersen & Laake 2013, BMC Med Res Methodol 13:91: exact conditional 0.070 and 0.053."""
    assert mcnemar_exact(lost, gained) == pytest.approx(p, abs=5e-5)


def test_design_effect_of_the_weil_litters_by_hand() -> None:
    """Cochran's ratio variance over the binomial one, in whole numbers: 145 pups, 112 alive, 16 litters."""
    alive, size = [a for a, _ in TREATED], [n for _, n in TREATED]
    rate = sum(alive) / sum(size)
    ratio = 16 / 15 * sum((a - rate * n) ** 2 for a, n in TREATED) / sum(size) ** 2
    hits = np.concatenate([np.arange(n) < a for a, n in TREATED])
    units = np.repeat(np.arange(16), size)
    assert (sum(size), sum(alive)) == (145, 112)
    assert design_effect(hits, units) == pytest.approx(ratio / (rate * (1 - rate) / 145), rel=1e-12)
    assert design_effect(hits, units) == pytest.approx(3.953, abs=5e-4)
    # t quantiles of a table: 1.753 for 15 degrees of freedom, 1.6555 for 144.
    assert effective_size(hits, units, 0.05) == pytest.approx(145 / 3.953 * (1.6555 / 1.753) ** 2, rel=1e-3)


def test_the_interval_of_the_weil_litters_is_that_of_rs_survey_package() -> None:
    """`svyciprop(~alive, svydesign(~litter), method="beta")`, Lumley's form of Korn & Graubard 1998, written out: the
    linearised variance over clusters, its effective size with degrees of freedom, quantiles of the beta distribution
    found by integrating its density. 90% two-sided is 95% at each end."""
    pups, litters, alive = sum(n for _, n in TREATED), len(TREATED), sum(a for a, _ in TREATED)
    rate = alive / pups
    influence = [(a - rate * n) / pups for a, n in TREATED]
    variance = litters / (litters - 1) * sum(u * u for u in influence)
    size = rate * (1 - rate) / variance * (t.ppf(0.05, pups - 1) / t.ppf(0.05, litters - 1)) ** 2

    def below(place: float, a: float, b: float) -> float:
        area: float = quad(lambda x: x ** (a - 1) * (1 - x) ** (b - 1), 0, place)[0]
        return area / float(quad(lambda x: x ** (a - 1) * (1 - x) ** (b - 1), 0, 1)[0])

    low = brentq(lambda x: below(x, size * rate, size * (1 - rate) + 1) - 0.05, 0.01, 0.99)
    high = brentq(lambda x: below(x, size * rate + 1, size * (1 - rate)) - 0.95, 0.01, 0.99)
    hits, units = np.concatenate([np.arange(n) < a for a, n in TREATED]), np.repeat(range(16), [n for _, n in TREATED])
    bound = bound_rate(hits, units, 0.05)
    assert (bound.low, bound.high) == pytest.approx((low, high), abs=1e-6)
    assert 0.6 < low < rate < high < 0.9, "112 of 145 pups"


def test_one_row_per_unit_is_the_exact_bound() -> None:
    hits = np.arange(300) < 7
    bound = bound_rate(hits, np.arange(300), 0.05)
    assert (bound.low, bound.high) == clopper_pearson(7, 300, 0.05)
    assert bound.effective == 300


def test_a_design_effect_below_one_is_not_believed() -> None:
    """Exactly one hit in every unit: variance between units 0, yet rows never count more than once."""
    hits = np.tile([True, False], 50)
    assert effective_size(hits, np.repeat(np.arange(50), 2), 0.05) == pytest.approx(100, rel=0.03)
    assert effective_size(hits, np.repeat(np.arange(50), 2), 0.05) <= 100


def test_identical_rows_within_a_unit_add_nothing() -> None:
    """Ten copies of each case: no narrower than the 100 cases themselves."""
    once = np.arange(100) < 8
    plain = bound_rate(once, np.arange(100), 0.05)
    copied = bound_rate(np.repeat(once, 10), np.repeat(np.arange(100), 10), 0.05)
    assert copied.high >= plain.high
    assert copied.low <= plain.low


def test_no_event_in_clustered_rows_counts_units_not_rows() -> None:
    bound = bound_rate(np.zeros(5000, dtype=bool), np.repeat(np.arange(50), 100), 0.05)
    assert bound.high == pytest.approx(1 - 0.05 ** (1 / 50))


def test_one_unit_alone_shows_nothing() -> None:
    bound = bound_rate(np.arange(500) < 3, np.zeros(500), 0.05)
    assert bound.high >= 0.95


@pytest.mark.parametrize(
    ("n", "lost", "gained"), [(400, 0.02, 0.0), (400, 0.05, 0.03), (1500, 0.03, 0.01), (60, 0.1, 0.05)]
)
def test_false_ships_at_a_loss_equal_to_the_margin_stay_below_alpha(n: int, lost: float, gained: float) -> None:
    """Rows are independent: the guarantee is exact, so even the simulated rate plus its noise respects alpha."""
    random = np.random.default_rng(7)
    counts = random.multinomial(n, [lost, gained, 1 - lost - gained], size=RUNS)
    seen, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    limits = most_lost(np.unique(seen[:, 1]), n, lost - gained, ALPHA)
    near = dict(zip(np.unique(seen[:, 1]).tolist(), limits.tolist(), strict=True))
    # Far from Tango's limit the exact bound is on the same side of the margin: it is computed near it alone.
    ships = 0
    for (b, c), count in zip(seen.tolist(), times.tolist(), strict=True):
        close = abs(b - near[c]) <= 2
        ships += count * (upper_difference(b, c, n, ALPHA) <= lost - gained if close else b < near[c])
    assert ships / RUNS <= ALPHA


@pytest.mark.parametrize(("units", "whole"), [(120, 0.0), (120, 0.5), (60, 1.0)])
def test_false_ships_stay_below_alpha_when_losses_come_in_units(units: int, whole: float) -> None:
    """8 rows a unit at a true loss of 5%: spread evenly, half of it whole units at once, or whole units only."""
    random = np.random.default_rng(11)
    margin, size, runs = 0.05, 8, 1500
    spread = margin * (1 - whole) / (1 - margin * whole)
    labels = np.repeat(np.arange(units), size)
    none = np.zeros(units * size, dtype=bool)
    ships = 0
    for _ in range(runs):
        struck = np.repeat(random.random(units) < margin * whole, size)
        lost = struck | (random.random(units * size) < spread)
        ships += bound_loss(lost, none, labels, ALPHA).high <= margin
    assert ships / runs <= ALPHA + NOISE


def test_needed_rows_are_enough_and_hardly_more() -> None:
    """Counts are whole: a number that passes may have one above it that does not, so the smallest is not asked for."""
    alpha = 0.05
    for lost, gained, margin in ((0.0, 0.0, 0.02), (0.01, 0.01, 0.01), (0.0095, 0.0068, 0.02)):
        n = rows_for_loss(lost, gained, margin, alpha)
        assert n is not None
        counts = [(ceil(lost * rows), floor(gained * rows), rows) for rows in (n, int(0.8 * n))]
        passes = [upper_difference(*each, alpha) <= margin for each in counts]
        assert passes == [True, False]
    assert rows_for_loss(0, 0, 0.02, alpha) in (count_unseen(0.02, alpha), count_unseen(0.02, alpha) + 1)


def test_a_plan_for_very_many_rows_takes_no_time() -> None:
    assert 150_000 < (rows_for_loss(0.01, 0.0095, 0.0011, 0.05) or 0) < 400_000


def test_a_rate_beyond_the_limit_needs_no_number() -> None:
    assert rows_for_loss(0.03, 0.01, 0.02, 0.05) is None
    assert rows_for_rate(0.9, 0.9, 0.05) is None
    assert rows_for_width(100, 0.03, 0.04, 0.02) is None


def test_clustering_needs_more_rows() -> None:
    plain = rows_for_loss(0.01, 0.0, 0.03, 0.05)
    clustered = rows_for_loss(0.01, 0.0, 0.03, 0.05, Clustering(per_row=0.25, units_per_row=0.2))
    assert plain is not None
    assert clustered is not None
    # Four times for what a row is worth, and what two bounds at half the error cost over the exact one.
    assert 4 * plain < clustered < 4.8 * plain


def test_width_shrinks_with_the_root_of_n() -> None:
    assert rows_for_width(100, 5.0, 6.0, 5.5) == 401
