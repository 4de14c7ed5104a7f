"""The exact bound of a paired difference: held by enumeration, close to Tango's, and never the wider one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln, ndtri, xlogy
from scipy.stats import beta, multinomial

from edgeft.evaluate import unconditional
from edgeft.evaluate.paired import tango_interval
from edgeft.evaluate.statistics import clopper_pearson
from edgeft.evaluate.unconditional import bound_difference, bound_loss, most_lost, upper_difference

ALPHA = 0.05


def outcomes(n: int) -> tuple[np.ndarray, np.ndarray]:
    lost, gained = np.array([(b, c) for b in range(n + 1) for c in range(n - b + 1)]).T
    return lost, gained


@pytest.mark.parametrize(("n", "alpha"), [(8, 0.05), (14, 0.05), (10, 0.025)])
def test_it_holds_whatever_the_rates(n: int, alpha: float) -> None:
    """All outcomes of n pairs, under rates of losses and gains on a grid that holds its edges: the bound is below the
    true difference with probability alpha at most. No other code of ours is in this."""
    lost, gained = outcomes(n)
    upper = np.array([upper_difference(int(b), int(c), n, alpha) for b, c in zip(lost, gained, strict=True)])
    ways = gammaln(n + 1) - gammaln(lost + 1) - gammaln(gained + 1) - gammaln(n - lost - gained + 1)
    worst = 0.0
    for gains in np.concatenate([np.linspace(0, 0.1, 21), np.linspace(0.12, 1, 45)]):
        for losses in np.linspace(0, 1 - gains, 81):
            rest = max(0.0, 1 - gains - losses)
            share = np.exp(ways + xlogy(lost, losses) + xlogy(gained, gains) + xlogy(n - lost - gained, rest))
            worst = max(worst, float(share[upper < losses - gains].sum()))
    assert 0.6 * alpha < worst <= alpha


def score_by_hand(lost: int, gained: int, n: int, difference: float) -> float:
    """Tango's score with the rate of gains found by searching the likelihood, not by its formula."""

    def unlikely(gains: float) -> float:
        losses = gains + difference
        same = max(0.0, 1 - losses - gains)
        return -float(xlogy(lost, losses) + xlogy(gained, gains) + xlogy(n - lost - gained, same))

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    gains = float(minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x)
    return (lost - gained - n * difference) / (n * (2 * gains + difference * (1 - difference))) ** 0.5


@pytest.mark.parametrize(("lost", "gained", "n", "alpha"), [(7, 1, 21, 0.025), (1, 7, 21, 0.025), (3, 0, 12, 0.05)])
def test_it_is_the_bound_of_its_definition(lost: int, gained: int, n: int, alpha: float) -> None:
    """Airway hyper-responsiveness of 21 children, 1 and 7 changed (Bentur 2009, the example of Fagerland, Lydersen &
    Laake 2013), and a small one. Every outcome, its place in Tango's order and its probability by other ways than ours:
    the smallest difference under which what is ranked at or before the one seen has probability alpha at most."""

    def beyond(difference: float) -> float:
        return score_by_hand(lost, gained, n, difference) + float(ndtri(1 - alpha))

    limit = brentq(beyond, (lost - gained) / n + 1e-9, 1 - 1e-9, xtol=1e-12)
    before = [
        (b, c) for b, c in zip(*outcomes(n), strict=True) if score_by_hand(b, c, n, limit) <= -ndtri(1 - alpha) + 1e-5
    ]
    assert (lost, gained) in before
    rates = [beta.ppf(0.005 * alpha, gained, n - gained + 1) if gained else 0.0]
    rates.append(float(beta.ppf(1 - 0.005 * alpha, gained + 1, n - gained)))

    def probability(difference: float) -> float:
        most = 0.0
        for gains in np.linspace(*rates, 400):
            losses = gains + difference
            if 0 <= losses <= 1 - gains:
                chances = multinomial(n, [losses, gains, 1 - losses - gains])
                most = max(most, float(chances.pmf([(b, c, n - b - c) for b, c in before]).sum()))
        return most

    ours = upper_difference(lost, gained, n, alpha)
    # A hundredth of alpha pays for the interval of the rate of gains, two thousandths are kept for the grid.
    assert probability(ours) <= 0.99 * alpha
    assert probability(ours - 2e-3) > 0.985 * alpha, "and no smaller one does"
    assert ours >= limit


def test_tango_does_not_hold_where_it_does() -> None:
    """What the enumeration above would say of Tango's limit: 20 pairs, no flip."""
    limit = tango_interval(0, 0, 20, ALPHA)[1]
    assert (1 - limit - 1e-9) ** 20 > 0.078
    assert (1 - upper_difference(0, 0, 20, ALPHA)) ** 20 <= ALPHA


@pytest.mark.parametrize(
    ("lost", "gained", "n"), [(5, 5, 500), (10, 10, 1000), (28, 25, 618), (100, 100, 10_000), (9, 4, 400)]
)
def test_it_costs_little_over_tango_and_far_less_than_two_bounds(lost: int, gained: int, n: int) -> None:
    low, high = bound_difference(lost, gained, n, ALPHA)
    near = tango_interval(lost, gained, n, ALPHA)
    two = clopper_pearson(lost, n, ALPHA / 2)[1] - clopper_pearson(gained, n, ALPHA / 2)[0]
    estimate = (lost - gained) / n
    assert high - estimate <= 1.03 * (near[1] - estimate)
    assert high - estimate < 0.75 * (two - estimate)
    assert low < estimate < high


def test_without_a_flip_it_is_the_exact_bound_of_one_rate() -> None:
    """The most that n cases without an event leave possible; the interval of the rate of gains costs one case."""
    for n in (30, 150, 300, 2000):
        alone = clopper_pearson(0, n, ALPHA)[1]
        assert alone <= upper_difference(0, 0, n, ALPHA) <= 1.005 * alone
    assert upper_difference(0, 0, 300, ALPHA) <= 0.01 < upper_difference(0, 0, 298, ALPHA)


def test_mirrors_and_moves_with_the_counts() -> None:
    low, high = bound_difference(7, 3, 120, ALPHA)
    assert bound_difference(3, 7, 120, ALPHA) == (-high, -low)
    by_losses = [upper_difference(b, 4, 200, ALPHA) for b in range(12)]
    by_gains = [upper_difference(6, c, 200, ALPHA) for c in range(12)]
    assert by_losses == sorted(by_losses) and len(set(by_losses)) == 12
    assert by_gains == sorted(by_gains, reverse=True)
    assert upper_difference(5, 5, 400, 0.01) > upper_difference(5, 5, 400, 0.05)


@pytest.mark.parametrize(("lost", "gained", "n"), [(9, 0, 9), (0, 9, 9), (1, 0, 1), (0, 0, 1), (3, 2, 5)])
def test_few_cases_show_little(lost: int, gained: int, n: int) -> None:
    low, high = bound_difference(lost, gained, n, ALPHA)
    assert -1 <= low <= (lost - gained) / n <= high <= 1
    assert (high == 1.0) is (lost == n)


def test_the_grid_is_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid ten times as fine finds no probability that is higher by more than what is kept for it."""
    for lost, gained, n in ((3, 0, 12), (10, 4, 25), (21, 13, 60), (0, 108, 200), (11, 223, 400),
                            (0, 0, 50), (4, 2, 60), (9, 4, 400), (30, 25, 618)):  # fmt: skip
        high = upper_difference(lost, gained, n, ALPHA)
        found = []
        for step in (unconditional.STEP, unconditional.STEP / 10):
            monkeypatch.setattr(unconditional, "STEP", step)
            rates = unconditional._rates_of_gains(gained, n, unconditional.BETA * ALPHA)
            rates = unconditional._finer(rates, high, n)
            limit = tango_interval(lost, gained, n, ALPHA)[1]
            most = unconditional._ranked_before(lost, gained, n, limit, float(rates[-1]))
            found.append(float(unconditional.probability(high, rates, n, most).max()))
            monkeypatch.undo()
        assert found[1] - found[0] <= unconditional.SLACK * ALPHA


def test_rows_in_units_keep_the_adjusted_bounds() -> None:
    lost, gained = np.arange(400) < 9, np.arange(400) >= 395
    alone, paired = (bound_loss(lost, gained, np.arange(400) // rows, ALPHA) for rows in (1, 2))
    assert alone.method.startswith("exact unconditional") and "Bonferroni" in paired.method
    assert alone.high < paired.high and alone.estimate == paired.estimate == pytest.approx(4 / 400)


def test_the_most_losses_are_those_that_tango_passes() -> None:
    gains = np.arange(12)
    most = most_lost(gains, 500, 0.02, ALPHA)
    for gained, lost in zip(gains.tolist(), most.tolist(), strict=True):
        assert lost < 0 or tango_interval(lost, gained, 500, ALPHA)[1] <= 0.02
        assert tango_interval(lost + 1, gained, 500, ALPHA)[1] > 0.02
