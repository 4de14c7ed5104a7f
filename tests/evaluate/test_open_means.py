"""Means of values without a largest one: cut at the gate's worst value, and then bounded like any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from edgeft.errors import RecipeError
from edgeft.evaluate.betting import bound_mean
from edgeft.evaluate.gates import decide_data_gate, needed_at_best
from edgeft.evaluate.values import metric_value
from edgeft.gate import Gate, Verdict
from edgeft.task import Score
from tests.evaluate.gate_builders import score_of

N = 2000
MM = np.abs(np.random.default_rng(5).normal(2.0, 0.5, N))
LOSS = Gate(metric="hd95_mm_lesion", no_worse_than="source", margin=1.0, at_worst=20.0)


def scored(values: NDArray[Any], name: str = "hd95_mm_lesion") -> Score:
    truth = np.zeros(len(values), np.int64)
    return replace(score_of(truth, truth, 2), cases={name: values})


def decide(gate: Gate, ours: NDArray[Any], theirs: NDArray[Any] = MM) -> Verdict:
    return decide_data_gate(gate, "t", scored(ours, gate.values), scored(theirs, gate.values), np.arange(len(ours)))


def test_a_rise_within_the_margin_passes_and_one_beyond_it_fails() -> None:
    assert decide(LOSS, MM + 0.1).status == "PASS"
    assert decide(LOSS, MM + 2.0).status == "FAIL"
    verdict = decide(LOSS, MM + np.random.default_rng(1).normal(0.98, 3.0, N))
    assert (
        verdict.status == "INCONCLUSIVE" and "possibly up to" in verdict.why and " mm worse (margin 1." in verdict.why
    )
    assert verdict.limit == 1.0 and verdict.quantity == "loss of hd95_mm_lesion (at worst 20)"


def test_distances_may_not_rise_unseen_where_the_source_is_bad_already() -> None:
    """Cut values would show nothing: both sides are beyond the worst."""
    bad = np.full(N, 40.0)
    assert decide(LOSS, bad + 15.0, bad).status == "FAIL"


def test_the_bound_is_that_of_what_was_cut() -> None:
    ours = MM.copy()
    ours[:20] = 180.0
    expected = bound_mean(np.clip(ours - MM, -20, 20), np.arange(N), 0.05, low=-20, high=20)
    assert decide(LOSS, ours).interval == pytest.approx((expected.low, expected.high))
    limit = Gate(metric="hd95_mm_lesion", at_most=3.0, at_worst=20.0)
    whole = bound_mean(np.minimum(ours, 20), np.arange(N), 0.05, high=20.0)
    assert decide(limit, ours).interval == pytest.approx((whole.low, whole.high))
    assert metric_value(limit, scored(ours), scored(MM), np.zeros(N, np.int64)) == pytest.approx(
        np.minimum(ours, 20).mean()
    )


def test_cases_that_rise_too_far_are_counted_exactly_and_need_no_worst_value() -> None:
    gate = Gate(metric="hd95_mm_lesion", cases_losing=5.0, at_most=0.02)
    ours = MM.copy()
    ours[:20] += 6.0
    assert decide(gate, ours).status == "PASS"
    ours[:80] += 6.0
    assert decide(gate, ours).status == "FAIL"
    assert decide(gate, MM - 1).status == "PASS", "what became nearer has lost nothing"


def test_no_case_may_lose_more_than_a_distance_has() -> None:
    small = np.arange(40)
    few = decide_data_gate(LOSS, "t", scored(MM[:40] + 0.1), scored(MM[:40]), small)
    assert few.status == "INCONCLUSIVE", "40 cases leave a share possible that loses 20 mm"


def test_needed_cases_grow_with_the_worst_value() -> None:
    at_20, at_200 = (
        needed_at_best(LOSS.model_copy(update={"at_worst": worst}), 1) for worst in (20.0, 200.0)
    )  # fmt: skip
    assert at_20 is not None and at_200 is not None and 8 * at_20 < at_200 < 12 * at_20
    assert decide(LOSS, MM[: at_20 + 1], MM[: at_20 + 1]).status == "PASS"
    assert decide(LOSS, MM[: at_20 - 1], MM[: at_20 - 1]).status == "INCONCLUSIVE"
    with pytest.raises(RecipeError, match="no number of cases"):
        needed_at_best(LOSS.model_copy(update={"margin": 0.0}), 10**6)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"metric": "hd95_mm_lesion", "at_most": 3}, "has no largest value"),
        ({"metric": "mean_dice", "at_least": 0.8, "at_worst": 3}, "goes with the mean of hd95_mm"),
        ({"metric": "hd95_mm_lesion", "at_most": 0.1, "cases_losing": 5, "at_worst": 3}, "goes with the mean"),
        ({"metric": "hd95_mm_lesion", "at_most": 30, "at_worst": 20}, "at_most must be below"),
        ({"metric": "hd95_mm_lesion", "no_worse_than": "source", "margin": 30, "at_worst": 20}, "margin must be below"),
        ({"metric": "surface_dice_lesion", "at_least": 0.9}, "needs tolerance_mm"),
        ({"metric": "dice_lesion", "at_least": 0.9, "tolerance_mm": 2}, "goes with surface_dice"),
        ({"metric": "dice_lesion", "at_most": 0.1, "cases_losing": 5}, "no case loses 5"),
        ({"metric": "hd95_mm_lesion", "at_least": 3, "at_worst": 20}, "better when lower"),
        ({"metric": "volume_error_lesion", "at_least": 0.1}, "better when lower"),
    ],
)
def test_gates_that_no_number_of_cases_decides(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Gate.model_validate(keys)


def test_two_tolerances_are_two_metrics() -> None:
    gates = [Gate(metric="surface_dice_lesion", at_least=0.9, tolerance_mm=mm) for mm in (1, 2.5)]
    assert [gate.values for gate in gates] == ["surface_dice_lesion within 1 mm", "surface_dice_lesion within 2.5 mm"]
    assert gates[0].describe() == "surface_dice_lesion within 1 mm at least 0.9"
