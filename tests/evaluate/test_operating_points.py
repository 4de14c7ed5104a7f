"""A threshold is the source's, frozen on the search set: whoever fixes it anew for each artefact hides what it lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from edgeft.evaluate.findings import freeze_threshold, is_called
from edgeft.evaluate.gates import decide_data_gate
from edgeft.evaluate.statistics import Undecidable, clopper_pearson
from edgeft.evaluate.values import metric_value
from edgeft.gate import Gate, OperatingPoint
from edgeft.task import Score
from tests.evaluate.gate_builders import score_of

LABELS = ("clear", "ill")
N = 4000
RANDOM = np.random.default_rng(3)
TRUTH = (RANDOM.random(N) < 0.4).astype(np.int64)
CHANCE = np.clip(RANDOM.normal(0.35 + 0.3 * TRUTH, 0.15), 0.001, 0.999)
POINT = OperatingPoint("ill", "specificity", 0.9)
GATE = Gate(metric="sensitivity_ill", at_specificity=0.9, no_worse_than="source", margin=0.05)


def scored(chance: NDArray[Any], truth: NDArray[Any] = TRUTH, at: float | None = None) -> Score:
    score = score_of(truth, (chance > 0.5).astype(np.int64), 2)
    points = {} if at is None else {POINT: at}
    return replace(score, labels=LABELS, probabilities=np.stack([1 - chance, chance], axis=1), thresholds=points)


FROZEN = freeze_threshold(scored(CHANCE), TRUTH, POINT)


def decide(gate: Gate, chance: NDArray[Any], threshold: float | None = FROZEN) -> Any:
    ours, theirs = scored(chance, at=threshold), scored(CHANCE, at=threshold)
    return decide_data_gate(gate, "t", ours, theirs, np.arange(N), truth=TRUTH)


@pytest.mark.parametrize("rate", ["specificity", "sensitivity"])
@pytest.mark.parametrize("value", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("digits", [1, 12])
def test_the_threshold_reaches_the_rate_and_no_other_one_does_better(rate: Any, value: float, digits: int) -> None:
    chance = np.round(CHANCE, digits)
    frozen = freeze_threshold(scored(chance), TRUTH, OperatingPoint("ill", rate, value))

    def reached(threshold: float) -> float:
        called = chance >= threshold
        return float((called[TRUTH == 1]).mean() if rate == "sensitivity" else (~called[TRUTH == 0]).mean())

    assert reached(frozen) >= value
    seen = np.unique(chance)
    worse = seen[seen >= frozen][:1] if rate == "sensitivity" else seen[seen < frozen][-1:]
    for one in worse:
        beyond = np.nextafter(one, 2) if rate == "sensitivity" else one
        assert reached(beyond) < value, "the next threshold gives up the rate"


def test_an_artefact_that_moved_its_probabilities_fails_at_the_frozen_threshold() -> None:
    """Its ranking is the same, so its own best threshold would show no loss at all."""
    moved = CHANCE - 0.08
    verdict = decide(GATE, moved)
    assert verdict.status == "FAIL" and "sensitivity_ill at the source's specificity of 0.9" in verdict.gate
    own = freeze_threshold(scored(moved), TRUTH, POINT)
    hits = ((moved >= own) == (CHANCE >= FROZEN)).mean()
    assert hits == 1.0
    assert decide(GATE, CHANCE).status == "PASS"
    assert decide(GATE.model_copy(update={"metric": "specificity_ill"}), moved).status == "PASS", "it became specific"


def test_the_bound_is_the_exact_one() -> None:
    gate = Gate(metric="sensitivity_ill", at_specificity=0.9, at_least=0.5)
    verdict, ill = decide(gate, CHANCE), TRUTH == 1
    hits = int((CHANCE[ill] >= FROZEN).sum())
    assert verdict.interval == pytest.approx(clopper_pearson(hits, int(ill.sum()), 0.05))
    assert verdict.n == int(ill.sum())
    assert metric_value(gate, scored(CHANCE, at=FROZEN), scored(CHANCE, at=FROZEN), TRUTH) == hits / ill.sum()


def test_without_a_frozen_threshold_nothing_passes() -> None:
    verdict = decide(GATE, CHANCE, None)
    assert verdict.status == "INCONCLUSIVE" and "was not fixed" in verdict.why
    with pytest.raises(Undecidable, match="no case other than 'ill'"):
        freeze_threshold(scored(CHANCE, np.ones(N, np.int64)), np.ones(N, np.int64), POINT)
    with pytest.raises(Undecidable, match="no label is called"):
        freeze_threshold(scored(CHANCE), TRUTH, OperatingPoint("iii", "specificity", 0.9))


def test_a_rounded_last_bit_decides_nothing() -> None:
    low = CHANCE.astype(np.float32).astype(np.float64)
    assert (is_called(scored(low, at=FROZEN), 1, POINT) == is_called(scored(CHANCE, at=FROZEN), 1, POINT)).all()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"metric": "accuracy"}, "a threshold decides"),
        ({"at_sensitivity": 0.9}, "one of them fixes"),
        ({"no_worse_than": "out/old"}, "the source's own"),
        ({"at_specificity": 1.0}, "less than 1"),
    ],
)
def test_points_that_make_no_sense(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Gate.model_validate({**GATE.model_dump(exclude_none=True), **keys})
