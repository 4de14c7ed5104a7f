"""Scores to units: which heads, neurons or channels go at a ratio, and whether anything would be left. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

Spread = Literal["layer", "global"]


class Emptied(ValueError):
    """A ratio that leaves nothing of a part. most: the largest ratio, to three digits, that leaves something of all."""

    def __init__(self, name: str, most: float) -> None:
        super().__init__(f"nothing would be left of {name}")
        self.name, self.most = name, most


def choose_units(
    scores: Mapping[str, Sequence[float]], whole: Mapping[str, int], ratio: float, spread: Spread, round_to: int = 1
) -> dict[str, list[int]]:
    """Units to remove of each part, lowest scores first (of equals the first).

    scores: part -> a score per unit that is left; whole: part -> units at the start, to which the ratio applies.
    layer: the same ratio of each; global: that ratio of all together, wherever the lowest are. round_to: what is kept
    of a part is a multiple of it where it has so many. Raises Emptied.
    """
    if spread == "global":
        wanted = _shares(scores, whole, ratio)
    else:
        wanted = {name: _removed(whole[name], ratio) for name in scores}
    empty = next((name for name, count in wanted.items() if count >= whole[name] and round_to == 1), None)
    if empty is not None:
        raise Emptied(empty, largest_ratio(scores, whole, spread))
    chosen = {}
    for name, values in scores.items():
        keep = max(1, whole[name] - wanted[name])
        keep = min(len(values), math.ceil(keep / round_to) * round_to)
        order = sorted(range(len(values)), key=lambda unit: (values[unit], unit))
        chosen[name] = sorted(order[: len(values) - keep])
    return chosen


def largest_ratio(scores: Mapping[str, Sequence[float]], whole: Mapping[str, int], spread: Spread) -> float:
    """The largest ratio, in thousandths, at which every part keeps a unit; 0 when there is none."""

    def works(thousandths: int) -> bool:
        ratio = thousandths / 1000
        wanted = _shares(scores, whole, ratio) if spread == "global" else {n: _removed(whole[n], ratio) for n in scores}
        return all(count < whole[name] for name, count in wanted.items())

    low, high = 0, 999
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if works(middle) else (low, middle - 1)
    return low / 1000


def _removed(count: int, ratio: float) -> int:
    return math.floor(count * ratio + 0.5)


def _shares(scores: Mapping[str, Sequence[float]], whole: Mapping[str, int], ratio: float) -> dict[str, int]:
    """Units removed of each part, those of earlier rounds included, when the lowest of all go."""
    gone = {name: whole[name] - len(values) for name, values in scores.items()}
    left = max(0, _removed(sum(whole[name] for name in scores), ratio) - sum(gone.values()))
    ranked = sorted((value, name, unit) for name, values in scores.items() for unit, value in enumerate(values))
    for _, name, _unit in ranked[:left]:
        gone[name] += 1
    return gone
