"""A user's own metric: nobody knows how large its values can be, so the gate says so, or decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from bench import decided_worlds as decided
from bench.gate_world import World
from bench.gates import highest, rates
from edgeft.errors import RecipeError
from edgeft.evaluate.betting import bound_mean
from edgeft.evaluate.bootstrap import bound_from_callback
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.gates import decide_data_gate, needed_at_best
from edgeft.gate import Gate, Verdict
from tests.evaluate.gate_builders import score_of

N = 400
UNITS = np.arange(N)
COST = Gate(metric="score.py:cost", no_worse_than="source", margin=3.0, at_worst=60)
MM = -np.random.default_rng(4).uniform(1, 5, N)
IN_MM = [
    (decided.own_metric(0.02, 60, worst=60, base=-5, callback=callback, rows=rows), n)
    for callback, rows, n in ((False, 1, 50), (False, 1, 100), (True, 1, 50), (True, 1, 100), (True, 4, 800))
]
"""Losses as large as any can be, which most gate sets of these sizes do not hold."""


def decide(ours: Any, theirs: Any = MM, gate: Gate = COST) -> Verdict:
    blank = score_of(np.zeros(N, np.int64), np.zeros(N, np.int64), 2)
    return decide_data_gate(gate, "t", blank, blank, UNITS, custom=CustomValues(ours, theirs))


def mean_of(values: NDArray[np.float64]) -> Callable[[Any], float]:
    return lambda rows: float(values[rows].mean())


@pytest.mark.parametrize(("world", "n"), IN_MM, ids=lambda item: getattr(item, "kind", str(item)))
def test_values_in_mm_at_the_margin_pass_in_one_of_twenty(
    world: World, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeft.evaluate.bootstrap.CALLBACK_DRAWS", 200)
    passed, naive = rates(world, n, 200)
    assert passed <= highest(200)
    assert naive > 0.3


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"metric": "score.py:f", "no_worse_than": "source", "margin": 0.01}, "can be is not known.*say at_worst"),
        ({"metric": "a/score.py:f", "at_least": 0.9}, "can be is not known.*say at_worst"),
        ({"metric": "score.py:f", "at_least": 1, "at_worst": 1}, "at_least must be below"),
        ({"metric": "score.py:f", "no_worse_than": "source", "margin": 2, "at_worst": 1}, "margin must be below"),
        ({"metric": "score.py:f", "at_most": 0.1, "cases_losing": 5, "at_worst": 3}, "goes with the mean"),
        ({"metric": "accuracy", "at_least": 0.9, "at_worst": 1}, "goes with the mean"),
    ],
)
def test_a_gate_that_does_not_say_how_large_its_values_are_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Gate.model_validate(keys)


def test_a_share_of_cases_needs_no_largest_value() -> None:
    gate = Gate(metric="score.py:f", at_most=0.05, cases_losing=5)
    assert decide(MM - 1.0, gate=gate).status == "PASS"


@pytest.mark.parametrize("keys", [{"no_worse_than": "source", "margin": 3.0}, {"at_least": -9.0}])
def test_values_are_cut_and_bounded_like_any_other_mean(keys: dict[str, Any]) -> None:
    gate = Gate(metric="score.py:cost", at_worst=60, **keys)
    ours = MM.copy()
    ours[:3] = -500.0
    values = MM - ours if gate.no_worse_than else ours
    expected = bound_mean(np.clip(values, -60, 60), UNITS, 0.05, low=-60, high=60)
    verdict = decide(ours, gate=gate)
    assert verdict.interval == (expected.low, expected.high) and verdict.method == expected.method
    assert "(at worst 60)" in verdict.quantity


def test_a_function_s_values_cannot_be_cut_so_one_beyond_decides_nothing() -> None:
    assert decide(mean_of(MM - 0.1), mean_of(MM)).status == "PASS"
    limit = COST.model_copy(update={"at_worst": 4.0})
    verdict = decide(mean_of(MM - 5.0), mean_of(MM), limit)
    assert verdict.status == "INCONCLUSIVE" and "gave 5, beyond the gate's at_worst 4" in verdict.why
    alone = Gate(metric="score.py:cost", at_least=-3.5, at_worst=2)
    assert "beyond the gate's at_worst 2" in decide(mean_of(MM), gate=alone).why


@pytest.mark.parametrize("values", [MM, mean_of(MM)], ids=["values", "function"])
def test_without_a_largest_value_nothing_is_decided(values: Any) -> None:
    """A gate that was made past its own rules still fails closed."""
    verdict = decide(values, values, COST.model_copy(update={"at_worst": None}))
    assert verdict.status == "INCONCLUSIVE" and "no at_worst" in verdict.why


def test_the_cases_needed_at_best_follow_from_the_share_of_the_largest_value() -> None:
    assert needed_at_best(COST, 58) == 59 and needed_at_best(COST, 59) is None
    assert decide(mean_of(MM), mean_of(MM)).interval[1] <= 3.0 * 59 / N * 1.2  # type: ignore[index]
    with pytest.raises(RecipeError, match="a margin of 0 is never shown"):
        needed_at_best(COST.model_copy(update={"margin": 0.0}), 10_000)


@pytest.mark.parametrize(("cases", "calls"), [(2_000, 1_000), (10_000, 400)])
def test_a_function_is_called_less_often_on_many_cases(cases: int, calls: int) -> None:
    """Its own time is all the time a decision takes."""
    asked = []

    def metric(rows: NDArray[np.int64]) -> float:
        asked.append(len(rows))
        return 0.5

    bound = bound_from_callback(metric, np.arange(cases), 0.05)
    assert asked == [cases] * (calls + 1) and f"{calls} draws" in bound.method
    asked.clear()
    bound_from_callback(metric, np.arange(cases) // 4, 0.05)
    assert asked == [cases] * (calls + 1), "units of equal size"
