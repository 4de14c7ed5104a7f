"""Many alarms at once. Gates need none of this: they are joined by AND, and a wrong PASS of all needs a wrong PASS of
one that is truly beyond its margin (intersection-union test, Berger 1982, Technometrics 24)."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: raising every alarm at or below alpha raises a false one at all with
    probability at most alpha, whatever the dependence. Holm 1979, Scandinavian Journal of Statistics 6.

    ValueError for a value outside [0, 1], NaN included.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError("p-values lie in 0 to 1")
    count, reached = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=lambda at: p_values[at])):
        reached = max(reached, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = reached
    return adjusted
