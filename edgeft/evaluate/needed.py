"""How many cases a gate needs: at best, before anything runs, and at the rates that were observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor

from edgeft.evaluate.paired import tango_interval
from edgeft.evaluate.statistics import NEEDED_CAP, clopper_pearson, unseen_rate
from edgeft.evaluate.unconditional import upper_difference

MOST_EXACT = 2_000


@dataclass(frozen=True)
class Clustering:
    """What one row is worth: `per_row` effective cases and `units_per_row` independent units."""

    per_row: float = 1.0
    units_per_row: float = 1.0

    def upper(self, rate: float, rows: int, alpha: float) -> float:
        """Upper bound of a rate seen on this many rows, as `statistics.bound_rate` gives it."""
        size = max(1.0, rows * self.per_row)
        high = clopper_pearson(rate * size, size, alpha)[1]
        if self.units_per_row >= 1:
            return high
        return max(high, unseen_rate(max(1.0, rows * self.units_per_row), alpha))

    def lower(self, rate: float, rows: int, alpha: float) -> float:
        """Mirror image of `upper`."""
        return 1 - self.upper(1 - rate, rows, alpha)


def rows_for_loss(
    lost: float, gained: float, margin: float, alpha: float, clustering: Clustering | None = None
) -> int | None:
    """Smallest number of rows at which these flip rates would show a loss of at most `margin`; None if none would.

    lost, gained: rates in [0, 1]. The rates themselves are uncertain, so the answer is a plan, not a promise.
    """
    part = clustering or Clustering()
    if lost - gained >= margin:
        return None
    if part.units_per_row >= 1:
        return _first(lambda n: _loss_shown(ceil(lost * n), floor(gained * n), n, margin, alpha))
    return _first(lambda n: part.upper(lost, n, alpha / 2) - part.lower(gained, n, alpha / 2) <= margin)


def _loss_shown(lost: int, gained: int, n: int, margin: float, alpha: float) -> bool:
    """Whether independent cases with these counts pass. Of many, by Tango's limit, which is then nearly the exact one,
    and by Clopper and Pearson's, which it is without gains."""
    if n > MOST_EXACT:
        alone = clopper_pearson(lost, n, alpha)[1] - gained / n
        return max(tango_interval(lost, gained, n, alpha)[1], alone) <= margin
    return upper_difference(lost, gained, n, alpha) <= margin


def rows_for_rate(rate: float, at_least: float, alpha: float, clustering: Clustering | None = None) -> int | None:
    """Smallest number of rows at which this rate would show at least `at_least`; None if none would."""
    part = clustering or Clustering()
    if rate <= at_least:
        return None
    return _first(lambda n: part.lower(rate, n, alpha) >= at_least)


def rows_for_width(n: int, estimate: float, bound: float, limit: float) -> int | None:
    """Rows at which an interval that shrinks with 1 / sqrt(n) would clear `limit`; None if the estimate does not."""
    room, width = abs(limit - estimate), abs(bound - estimate)
    wrong_side = (bound - estimate) * (limit - estimate) <= 0
    if wrong_side or room == 0:
        return None
    rows = n * (width / room) ** 2
    return None if not rows < NEEDED_CAP else max(n + 1, int(rows) + 1)


def _first(passes: Callable[[int], bool]) -> int | None:
    """Smallest n for which a condition that stays true once true holds: doubling, then bisection."""
    high = 1
    while not passes(high):
        high *= 2
        if high > NEEDED_CAP:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high
