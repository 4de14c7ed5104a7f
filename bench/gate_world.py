"""A world in which an artefact is exactly as bad as its gate allows, and how a gate answers in it.

`draw(random, n, kept)` gives a gate set of n cases and answers (passed, naive): whether edgeft's bound would pass the
gate, and whether the point estimate would. kept: share of the bound's width that is left of it, 1 but where a test
looks whether too narrow a bound is noticed. All data are synthetic; true values are exact shares, sums or integrals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeft.evaluate.statistics import Bound, Undecidable

ALPHA = 0.05
Random = np.random.Generator
Floats = NDArray[np.float64]
Draw = Callable[[Random, int, float], tuple[bool, bool]]
Bounded = Callable[[Random, int], Bound]


@dataclass(frozen=True)
class World:
    """A gate kind, what the data are like, and a draw of one gate set with its two answers."""

    kind: str
    data: str
    draw: Draw


def at_most(limit: float, bound: Bounded) -> Draw:
    """The gate on an upper bound. What cannot be decided passes neither way."""

    def draw(random: Random, n: int, kept: float) -> tuple[bool, bool]:
        try:
            found = bound(random, n)
        except Undecidable:
            return False, False
        edge = found.estimate + kept * (found.high - found.estimate)
        return edge <= limit, found.estimate <= limit + ROUNDING

    return draw


def at_least(limit: float, bound: Bounded) -> Draw:
    """The gate on a lower bound."""

    def draw(random: Random, n: int, kept: float) -> tuple[bool, bool]:
        try:
            found = bound(random, n)
        except Undecidable:
            return False, False
        edge = found.estimate - kept * (found.estimate - found.low)
        return edge >= limit, found.estimate >= limit - ROUNDING

    return draw


ROUNDING = 1e-12


def unit_labels(count: int, rows: int) -> NDArray[np.int64]:
    """(count * rows,) labels: `rows` rows in each unit."""
    return np.repeat(np.arange(count), rows)


def in_units(rows: int) -> str:
    """How a world's name says that rows come in units."""
    return "" if rows == 1 else f", units of {rows} rows alike"
