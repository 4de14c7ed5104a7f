"""The chance to pass, against simulated gate sets judged by the real gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeft.evaluate.chance import chance_to_pass
from edgeft.evaluate.gates import decide_data_gate
from edgeft.gate import Gate
from edgeft.task import Score
from tests.evaluate.gate_builders import score_of

GATE = Gate(metric="accuracy", no_worse_than="source", margin=0.02)


def pair(rows: int, lost: int, gained: int, wrong: int = 200) -> tuple[Score, Score]:
    """(artefact, source) over rows with these flips. Synthetic."""
    source = np.ones(rows, bool)
    source[: min(wrong, rows // 4)] = False
    artefact = source.copy()
    artefact[np.flatnonzero(source)[:lost]] = False
    artefact[np.flatnonzero(~source)[:gained]] = True
    return _score(artefact), _score(source)


def _score(correct: np.ndarray) -> Score:
    truth = np.zeros(len(correct), np.int64)
    predicted = np.where(correct, 0, 1)
    confusion = np.zeros((2, 2), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    return Score({"accuracy": float(correct.mean())}, correct, predicted, confusion)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 1), (6, 2), (10, 4)])
def test_the_chance_is_what_simulated_gate_sets_give(lost: int, gained: int) -> None:
    """Rates drawn from the same posterior, gate sets drawn from the rates, judged by decide_data_gate."""
    n, m = 800, 1000
    artefact, source = pair(n, lost, gained)
    stated = chance_to_pass(GATE, artefact, source, np.arange(n), m)
    random, passed, draws = np.random.default_rng(0), 0, 600
    for _ in range(draws):
        losses = random.binomial(m, random.beta(lost + 0.5, n - lost + 0.5))
        gains = random.binomial(m, random.beta(gained + 0.5, n - gained + 0.5))
        ours, theirs = pair(m, min(losses, 700), min(gains, 200))
        passed += decide_data_gate(GATE, "x", ours, theirs, np.arange(m)).status == "PASS"
    assert stated == pytest.approx(passed / draws, abs=0.065), "3 standard errors of 600 draws"


def test_a_loss_equal_to_the_margin_rarely_passes_and_none_nearly_always() -> None:
    n = 1000
    artefact, source = pair(n, 20, 0)
    assert chance_to_pass(GATE, artefact, source, np.arange(n), 2000) < 0.2, (
        "the rule by the point estimate would take it"
    )
    artefact, source = pair(n, 0, 0)
    assert chance_to_pass(GATE, artefact, source, np.arange(n), 2000) > 0.99


def test_more_losses_never_raise_the_chance_and_a_larger_gate_set_helps_the_harmless() -> None:
    n = 400
    chances = [chance_to_pass(GATE, *pair(n, lost, 1), np.arange(n), 900) for lost in range(12)]
    assert chances == sorted(chances, reverse=True) and chances[0] > chances[-1] + 0.5
    few, many = (chance_to_pass(GATE, *pair(n, 1, 1), np.arange(n), rows) for rows in (400, 4000))
    assert many > few


def test_a_gate_set_too_small_for_the_margin_has_no_chance() -> None:
    artefact, source = pair(400, 0, 0)
    assert chance_to_pass(GATE, artefact, source, np.arange(400), 60) < 0.01  # it would have to gain


def test_the_chance_of_one_label_is_that_of_its_cases_and_of_as_many_as_the_gate_set_has() -> None:
    """300 of 1,200 cases are of the label, so 200 of the gate set's 800 will be."""
    truth = np.arange(1200) % 4
    found = truth.copy()
    found[np.flatnonzero(truth == 1)[:6]] = 0
    ours, right = (replace(score_of(truth, given, 4), labels=tuple("abcd")) for given in (found, truth))
    kept = truth == 1
    alone = [score_of(truth[kept], given[kept], 4) for given in (found, truth)]
    gate = Gate(metric="sensitivity_b", no_worse_than="source", margin=0.06)
    chance = chance_to_pass(gate, ours, right, np.arange(1200), 800, truth=truth)
    accuracy = gate.model_copy(update={"metric": "accuracy"})
    assert chance == pytest.approx(chance_to_pass(accuracy, *alone, np.arange(300), 200)) and 0.1 < chance < 0.9


def test_an_absolute_gate_is_predicted_from_its_bound() -> None:
    gate = Gate(metric="accuracy", at_least=0.7)
    n = 800
    good, _ = pair(n, 0, 0)
    bad, source = pair(n, 30, 0)
    assert good.metrics["accuracy"] == 0.75
    high, low = (chance_to_pass(gate, score, source, np.arange(n), 1200) for score in (good, bad))
    assert 0.8 < high < 1 and low < 0.5 < high


def test_rows_of_one_unit_count_for_less() -> None:
    n = 600
    artefact, source = pair(n, 6, 0)
    alone = chance_to_pass(GATE, artefact, source, np.arange(n), 1500)
    together = chance_to_pass(GATE, artefact, source, np.arange(n) // 10, 1500)
    assert together < alone
