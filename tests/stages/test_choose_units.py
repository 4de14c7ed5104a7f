"""Scores to units: counts, order, rounding, and the largest ratio that leaves something everywhere."""

from __future__ import annotations

import pytest

from edgeft.record import RatioTrial
from edgeft.stages.prune.bisect_ratio import RESOLUTION, OutOfReach, bisect_ratio
from edgeft.stages.prune.choose_units import Emptied, choose_units, largest_ratio

SCORES = {"a": [4.0, 1.0, 3.0, 2.0], "b": [0.1, 0.2, 9.0, 0.3, 9.0, 9.0, 9.0, 9.0]}
WHOLE = {"a": 4, "b": 8}


def test_each_layer_loses_its_lowest() -> None:
    assert choose_units(SCORES, WHOLE, 0.5, "layer") == {"a": [1, 3], "b": [0, 1, 2, 3]}


def test_together_the_lowest_of_all_go() -> None:
    assert choose_units(SCORES, WHOLE, 0.5, "global") == {"a": [0, 1, 2, 3][1:], "b": [0, 1, 3]}


def test_a_ratio_counts_from_the_start_not_from_what_is_left() -> None:
    left = {"a": [4.0, 3.0]}
    assert choose_units(left, {"a": 4}, 0.5, "layer") == {"a": []}
    assert choose_units(left, {"a": 4}, 0.75, "layer") == {"a": [1]}


def test_kept_counts_are_multiples() -> None:
    scores = {"b": [float(i) for i in range(20)]}
    assert len(choose_units(scores, {"b": 20}, 0.5, "layer", 8)["b"]) == 4  # 10 left become 16
    assert choose_units({"b": [1.0, 2.0]}, {"b": 2}, 0.9, "layer", 8) == {"b": []}


@pytest.mark.parametrize("spread", ["layer", "global"])
def test_the_ratio_named_in_the_refusal_works_and_the_next_does_not(spread: str) -> None:
    with pytest.raises(Emptied) as caught:
        choose_units(SCORES, WHOLE, 0.95, spread)  # type: ignore[arg-type]
    most = caught.value.most
    assert caught.value.name == "a"
    assert most == largest_ratio(SCORES, WHOLE, spread)  # type: ignore[arg-type]
    chosen = choose_units(SCORES, WHOLE, most, spread)  # type: ignore[arg-type]
    assert all(len(chosen[name]) < WHOLE[name] for name in WHOLE)
    with pytest.raises(Emptied):
        choose_units(SCORES, WHOLE, most + 0.001, spread)  # type: ignore[arg-type]


def trial(ratio: float, slope: float = 8.0) -> RatioTrial:
    return RatioTrial(ratio=ratio, p50_ms=10.0 - slope * ratio, runs=64, valid=True)


def test_bisection_ends_at_the_smallest_ratio_that_fits() -> None:
    ratio, trials = bisect_ratio(trial, 6.0, 0.9)
    assert 0.5 <= ratio <= 0.5 + RESOLUTION
    assert next(item for item in trials if item.ratio == ratio).p50_ms <= 6.0
    assert len(trials) <= 9


def test_bisection_prunes_nothing_where_nothing_is_needed() -> None:
    assert bisect_ratio(trial, 10.0, 0.9) == (0.0, [trial(0.0)])


def test_bisection_says_how_far_it_came() -> None:
    with pytest.raises(OutOfReach) as caught:
        bisect_ratio(trial, 1.0, 0.9)
    assert caught.value.least == pytest.approx(2.8)
