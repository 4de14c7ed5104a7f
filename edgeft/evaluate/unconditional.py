"""The exact bound of the difference of two paired rates that decides gates on independent cases.

Tango's upper limit (paired.tango_interval) orders the possible outcomes; the bound is the smallest difference under
which what was seen, or anything the limit ranks before it, has at most probability alpha whatever the rate of gains:
Buehler 1957, Journal of the American Statistical Association 52; Lloyd & Moldovan 2007, Statistics in Medicine 26.
The rate of gains is sought in its own exact interval, whose error beta is paid for: Berger & Boos 1994, Journal of the
American Statistical Association 89.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import log
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.paired import tango_interval, tango_score, tango_scores
from edgeft.evaluate.statistics import Bound, bound_rate, clopper_pearson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Counts = NDArray[np.int64]

METHOD = "exact unconditional bound of a paired difference, in the order of Tango's"
BETA = 0.01
"""Of alpha, spent on the interval of the rate of gains."""
SLACK = 0.002
"""Of alpha, kept for what may lie between two points of the grid (test_the_grid_is_fine_enough)."""
STEP = 0.05
"""Between two rates that are tried, in standard deviations of their estimate: of gains, and of losses too where those
are the rarer ones and so the probability changes faster with them."""
REACH = 7.0
"""Standard deviations around a count's mean that are summed over; what lies beyond is counted as probable."""
TINY = 1e-300
DIGITS = 1e-6
"""Width to which the bound is narrowed; what is given is the outer end."""


def bound_loss(lost: NDArray[np.bool_], gained: NDArray[np.bool_], units: NDArray[Any], alpha: float) -> Bound:
    """Bounds of the paired difference of two accuracies, source minus artefact = P(lost) - P(gained).

    lost, gained: (n,) bool, disjoint; units: (n,) labels. One row per unit: `bound_difference`. Several rows in some:
    upper = upper(lost) - lower(gained), each Korn & Graubard's at alpha / 2 (Bonferroni), so the pair holds for every
    dependence between the two; lower likewise.
    """
    import numpy as np

    n, estimate = len(lost), float(np.mean(lost)) - float(np.mean(gained))
    if len(np.unique(units)) == n:
        low, high = bound_difference(int(lost.sum()), int(gained.sum()), n, alpha)
        return Bound(estimate, low, high, n, float(n), METHOD)
    worse, better = bound_rate(lost, units, alpha / 2), bound_rate(gained, units, alpha / 2)
    effective = min(worse.effective, better.effective)
    method = f"paired difference, Bonferroni of two {worse.method} bounds"
    return Bound(estimate, worse.low - better.high, worse.high - better.low, n, effective, method)


def bound_difference(lost: int, gained: int, n: int, alpha: float) -> tuple[float, float]:
    """(low, high) of P(lost) - P(gained) from n independent pairs, each one-sided at alpha. ValueError for impossible
    counts."""
    return -upper_difference(gained, lost, n, alpha), upper_difference(lost, gained, n, alpha)


@lru_cache(maxsize=4096)
def upper_difference(lost: int, gained: int, n: int, alpha: float) -> float:
    """Upper bound of P(lost) - P(gained), exact for every n, rate of losses and rate of gains."""
    limit = tango_interval(lost, gained, n, alpha)[1]
    if limit >= 1:
        return 1.0
    rates = _rates_of_gains(gained, n, BETA * alpha)
    most = _ranked_before(lost, gained, n, limit, float(rates[-1]))
    allowed = alpha * (1 - BETA - SLACK)

    def excess(difference: float) -> float:
        return log(float(probability(difference, _finer(rates, difference, n), n, most).max()) / allowed + TINY)

    low, high, step = limit, limit, max(DIGITS, 0.1 / n)
    over = under = excess(limit)
    while under > 0:
        low, over, step = high, under, 2 * step
        high = min(1.0, high + step)
        under = excess(high)
        if high >= 1 and under > 0:
            return 1.0
    while over <= 0:
        high, under, step = low, over, 2 * step
        low = max(-1.0, low - step)
        if low <= -1:
            return high
        over = excess(low)
    return _narrow(excess, (low, over), (high, under))


def _narrow(excess: Callable[[float], float], left: tuple[float, float], right: tuple[float, float]) -> float:
    """The outer end of where a falling function crosses zero. left, right: (place, value), above and below it."""
    turn = 0
    while right[0] - left[0] > DIGITS:
        width, turn = right[0] - left[0], turn + 1
        # In turn where the chord crosses, and the middle, so that no end can stay for ever.
        share = left[1] / (left[1] - right[1]) if turn % 2 else 0.5
        place = left[0] + width * min(0.99, max(0.01, share))
        value = excess(place)
        if value > 0:
            left = place, value
        else:
            right = place, value
    return right[0]


def probability(difference: float, rates: Floats, n: int, most: Counts) -> Floats:
    """(rates,) probability of at most `most[c]` losses at c gains, for every rate of gains, which rise.

    difference: of the rates of losses and gains. A rate of losses below 0 counts as 0: the set of outcomes holds with
    any number of losses all smaller ones, so the probability falls with the difference at every rate of gains. Rates
    of gains that leave no room for the losses count as the highest that does, and as nothing where all are too high.
    """
    import numpy as np
    from scipy.special import bdtr, gammaln, xlog1py, xlogy

    highest = (1 - difference) / 2
    if highest < rates[0]:
        return np.zeros(len(rates))
    rates = np.minimum(rates, highest)
    centre, spread = n * rates, REACH * np.sqrt(n * rates * (1 - rates)) + REACH
    first = np.maximum(0, np.floor(centre - spread)).astype(np.int64)
    width = int(np.ceil(2 * spread.max())) + 2
    counts = first[:, None] + np.arange(width)
    inside = (counts <= n) & (counts < len(most))
    counts = np.where(inside, counts, 0)
    ways = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
    share = np.exp(ways + xlogy(counts, rates[:, None]) + xlog1py(n - counts, -rates[:, None]))
    share = np.where(inside, share, 0.0)
    losses = np.clip(rates + difference, 0.0, 1 - rates) / np.maximum(1 - rates, np.finfo(np.float64).tiny)
    top = np.minimum(most[counts], n - counts)
    under = np.where(top < 0, 0.0, bdtr(np.maximum(top, 0).astype(np.float64), n - counts, losses[:, None]))
    unlikely = np.maximum(0.0, 1 - share.sum(axis=1))
    found: Floats = (share * under).sum(axis=1) + unlikely
    return found


def most_lost(gains: Counts, n: int, difference: float, alpha: float) -> Counts:
    """(gains,) the most losses of n cases with which Tango's upper limit is at most `difference`; -1 where none."""
    from scipy.special import ndtri

    return _most_within(gains, n, difference, float(ndtri(alpha)))


def _rates_of_gains(gained: int, n: int, beta: float) -> Floats:
    """Rates in the exact interval of the rate of gains, evenly spaced on the scale that makes their errors equal."""

    return _spaced(*clopper_pearson(gained, n, beta / 2), n)


def _spaced(low: float, high: float, n: int) -> Floats:
    import numpy as np

    first, last = (float(np.arcsin(np.sqrt(rate))) for rate in (low, high))
    points = max(2, int(np.ceil((last - first) * 2 * np.sqrt(n) / STEP)) + 1)
    rates: Floats = np.sin(np.linspace(first, last, points)) ** 2
    return rates


def _finer(rates: Floats, difference: float, n: int) -> Floats:
    """The rates of gains, and where losses are rarer those at which the rates of losses are evenly spaced, too."""
    import numpy as np

    if difference >= 0:
        return rates
    low, high = (min(1.0, max(0.0, float(rate) + difference)) for rate in (rates[0], rates[-1]))
    losses = _spaced(low, high, n)
    return np.union1d(rates, np.clip(losses - difference, rates[0], rates[-1]))


def _ranked_before(lost: int, gained: int, n: int, limit: float, rate: float) -> Counts:
    """(gains + 1,) the most losses at each number of gains whose limit is not above that of what was seen; -1: none.

    Gains go as far as they are likely at `rate`. Made to rise with the gains where the limit's own order does not.
    """
    import numpy as np

    last = min(n, int(np.ceil(n * rate + 2 * REACH * (np.sqrt(n * rate) + 1))))
    gains = np.arange(max(last, gained) + 1)
    goal = tango_score(lost, gained, n, limit)
    below = _most_within(gains, n, limit, goal + 1e-12 * abs(goal))
    most: Counts = np.maximum.accumulate(below)
    most[gained:] = np.maximum(most[gained:], lost)
    return most


def _most_within(gains: Counts, n: int, difference: float, goal: float) -> Counts:
    """(gains,) the most losses with a score of at most `goal`, which rises with the losses; -1 where none."""
    import numpy as np

    below, above = np.full(len(gains), -1), n - gains + 1
    while (above - below > 1).any():
        middle = (below + above) // 2
        inside = tango_scores(np.maximum(middle, 0), gains, n, difference) <= goal
        open_ = above - below > 1
        below, above = np.where(open_ & inside, middle, below), np.where(open_ & ~inside, middle, above)
    return below.astype(np.int64)
