"""The betting bound: against its definition computed another way, its coverage by simulation, and its gates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeft.errors import RecipeError
from edgeft.evaluate.betting import TRUNCATION, bound_mean, lower_mean, unit_means, units_at_best, units_without_loss
from edgeft.evaluate.gates import decide_data_gate, needed_at_best
from edgeft.gate import Gate
from edgeft.task import Score


def by_hand(values: list[float], alpha: float) -> float:
    """Waudby-Smith & Ramdas' one-sided capital process, value after value over a grid of means, in plain Python."""
    n, best = len(values), 0.0
    for step in range(1, 2000):
        m = step / 2000
        capital = 1.0
        mean_sum, spread_sum, variance = 0.5, 0.25, 0.25
        for t, x in enumerate(values, start=1):
            bet = min(math.sqrt(2 * math.log(1 / alpha) / (n * variance)), TRUNCATION / m)
            capital *= 1 + bet * (x - m)
            if capital >= 1 / alpha:
                best = m
                break
            mean_sum += x
            spread_sum += (x - mean_sum / (t + 1)) ** 2
            variance = spread_sum / (t + 1)
        else:
            break
    return best


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_is_that_of_the_capital_process(seed: int) -> None:
    values = np.random.default_rng(seed).beta(6, 2, 80)
    assert lower_mean(values, 0.05) == pytest.approx(by_hand(values.tolist(), 0.05), abs=1e-3)


DICE = [0.91, 0.88, 0.93, 0.79, 0.95, 0.90, 0.86, 0.92, 0.31, 0.94, 0.89, 0.87, 0.96, 0.90, 0.85, 0.93, 0.91, 0.88]
DICE += [0.94, 0.90]


@pytest.mark.parametrize(
    ("values", "alpha", "lower"),
    [(DICE, 0.05, 0.70670), (DICE, 0.025, 0.67618), ([1 - x for x in DICE], 0.05, 0.05096), (DICE * 4, 0.05, 0.81726)],
)
def test_the_bound_is_that_of_the_authors_own_program(values: list[float], alpha: float, lower: float) -> None:
    """Figures of `betting_mart` with `lambda_predmix_eb` from confseq (Howard, Waudby-Smith and others,
    github.com/gostevehoward/confseq, src/confseq/betting.py at 0275a66 and betting_strategies.py at 113f874): theta=1,
    trunc_scale=3/4, fixed_n=n, over means in steps of 1e-5; the largest mean that all smaller ones are refuted to."""
    assert lower_mean(np.array(values), alpha) == pytest.approx(lower, abs=1.1e-5)


def test_it_holds_at_a_loss_equal_to_the_margin() -> None:
    """50 cases of which 2% lose 0.3: bootstrap-t passes 36% of these, the percentile bootstrap 13-26%."""
    random, alpha, n, runs = np.random.default_rng(1), 0.05, 50, 600
    true = 0.02 * 0.3
    wrong = 0
    for _ in range(runs):
        losses = np.where(random.random(n) < 0.02, 0.3, 0.0)
        bound = bound_mean(losses, np.arange(n), alpha, low=-1.0, high=1.0)
        wrong += bound.high < true
    assert wrong / runs <= alpha + 2.33 * math.sqrt(alpha * (1 - alpha) / runs)


def test_it_is_not_so_wide_as_to_be_useless() -> None:
    values = np.random.default_rng(0).beta(30, 3, 400)
    bound = bound_mean(values, np.arange(400), 0.05)
    assert bound.low < values.mean() < bound.high
    assert bound.high - bound.low < 0.04, "about twice the normal interval of these values"


def test_a_unit_counts_once() -> None:
    values, units = np.array([1.0, 0.0, 0.5, 0.5, 1.0]), np.array(["b", "a", "b", "a", "a"])
    assert unit_means(values, units).tolist() == [0.75, 0.5]
    many = bound_mean(np.repeat(values, 50), np.repeat(units, 50), 0.05)
    assert many.low == pytest.approx(bound_mean(values, units, 0.05).low), "repeated cases of two units add nothing"


def test_values_outside_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        bound_mean(np.array([1.2]), np.array([0]), 0.05)


def score(values: np.ndarray) -> Score:
    n = len(values)
    return Score(
        {"mean_dice": float(values.mean())}, values > 0.5, np.zeros(n, np.int64), np.zeros((2, 2), np.int64), {"mean_dice": values}
    )  # fmt: skip


@pytest.mark.parametrize(("loss", "status"), [(0.0, "PASS"), (0.02, "INCONCLUSIVE"), (0.09, "FAIL")])
def test_a_gate_on_dice_is_decided_by_it(loss: float, status: str) -> None:
    source = np.random.default_rng(2).uniform(0.7, 0.9, 400)
    gate = Gate(metric="mean_dice", no_worse_than="source", margin=0.03)
    verdict = decide_data_gate(gate, "here", score(source - loss), score(source), np.arange(400))
    assert verdict.status == status
    assert "betting" in verdict.method


@pytest.mark.parametrize("margin", [0.02, 0.1])
def test_the_number_needed_at_best_is_the_smallest_that_passes(margin: float) -> None:
    gate = Gate(metric="mean_dice", no_worse_than="source", margin=margin)
    needed = units_without_loss(margin, 0.05)
    assert needed is not None and needed_at_best(gate, needed) is None and needed_at_best(gate, needed - 1) == needed
    for n, status in ((needed, "PASS"), (needed - 1, "INCONCLUSIVE")):
        same = np.full(n, 0.8)
        assert decide_data_gate(gate, "here", score(same), score(same), np.arange(n)).status == status


def test_an_absolute_gate_needs_room() -> None:
    at_best = units_at_best(0.2, 0.05)
    gate = Gate(metric="dice_disc", at_least=0.8)
    assert at_best is not None and needed_at_best(gate, at_best - 1) == at_best
    with pytest.raises(RecipeError):
        needed_at_best(Gate(metric="mean_dice", at_least=1.0), 1000)
