"""Gates themselves, from scores to verdict: each decides on its kind's bound at its own confidence, and passes what is
exactly at its limit in one of twenty. What the bounds are worth is in test_false_passes.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from bench import decided_worlds as decided
from bench.gate_world import World
from bench.gates import highest, rates
from edgeft.evaluate import auc, betting, calibration, f1, precision, statistics, unconditional
from edgeft.evaluate.bootstrap import bound_from_callback
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.gates import decide_data_gate
from edgeft.evaluate.statistics import Bound
from edgeft.gate import Gate, OperatingPoint
from edgeft.task import Score

N, TRIALS, SHARE = 200, 150, 0.05
RANDOM = np.random.default_rng(11)
UNITS = np.arange(N)
TRUTH = (RANDOM.random(N) < 0.4).astype(np.int64)
CHANCE = np.clip(RANDOM.normal(0.35 + 0.3 * TRUTH, 0.2), 0.01, 0.99)
POINT = OperatingPoint("ill", "specificity", 0.9)
LEVEL = 0.6
"""The frozen threshold."""


def scored(chance: Any, dice: Any) -> Score:
    """Of a classifier with these probabilities of `ill`, and of values per case."""
    answer = (chance > 0.5).astype(np.int64)
    confusion = np.zeros((2, 2), np.int64)
    np.add.at(confusion, (TRUTH, answer), 1)
    both = np.stack([1 - chance, chance], axis=1)
    values = {"brier": calibration.brier_cases(both, TRUTH), "mean_dice": dice, "hd95_mm_ill": 30 * (1 - dice)}
    right = answer == TRUTH
    return Score(
        {"accuracy": float(right.mean())}, right, answer, confusion, values, decided.LABELS, both,
        thresholds={POINT: LEVEL},
    )  # fmt: skip


THEIRS = scored(CHANCE, RANDOM.uniform(0.8, 1.0, N))
OURS = scored(
    np.clip(CHANCE + RANDOM.normal(0, 0.1, N), 0.01, 0.99), THEIRS.cases["mean_dice"] - RANDOM.uniform(-0.01, 0.03, N)
)
ILL = TRUTH == 1
SIDES = (THEIRS, OURS)
CALLED = [np.asarray(side.probabilities)[:, 1] >= LEVEL for side in SIDES]
COLUMNS = [np.asarray(side.probabilities)[:, 1] for side in SIDES]
SURE = [(np.asarray(side.probabilities).max(axis=1), side.correct) for side in SIDES]
DICE, BRIER, MM = ([side.cases[name] for side in SIDES] for name in ("mean_dice", "brier", "hd95_mm_ill"))
NO_WORSE = {"no_worse_than": "source", "margin": 0.05}
LEAST, MOST = {"at_least": 0.5}, {"at_most": 0.5}


def lost(before: Any, after: Any, alpha: float) -> Bound:
    return unconditional.bound_loss(before & ~after, after & ~before, UNITS[: len(before)], alpha)


def rate(hits: Any, alpha: float) -> Bound:
    return statistics.bound_rate(hits, UNITS[: len(hits)], alpha)


def mean(values: Any, alpha: float, low: float = 0.0, high: float = 1.0) -> Bound:
    return betting.bound_mean(np.clip(values, low, high), UNITS, alpha, low=low, high=high)


def own(alpha: float) -> Bound:
    return bound_from_callback(lambda rows: float((DICE[0] - DICE[1])[rows].mean()), UNITS, alpha)


KINDS: list[tuple[Mapping[str, Any], Callable[[float], Bound]]] = [
    ({"metric": "accuracy", **NO_WORSE}, lambda a: lost(THEIRS.correct, OURS.correct, a)),
    ({"metric": "accuracy", **LEAST}, lambda a: rate(OURS.correct, a)),
    ({"metric": "flip_rate", **MOST}, lambda a: rate(OURS.predictions != THEIRS.predictions, a)),
    ({"metric": "sensitivity_ill", **NO_WORSE},
     lambda a: lost(THEIRS.predictions[ILL] == 1, OURS.predictions[ILL] == 1, a)),
    ({"metric": "sensitivity_ill", "at_specificity": 0.9, **NO_WORSE}, lambda a: lost(*(c[ILL] for c in CALLED), a)),
    ({"metric": "specificity_ill", "at_specificity": 0.9, **LEAST}, lambda a: rate(~CALLED[1][~ILL], a)),
    ({"metric": "macro_f1", **NO_WORSE},
     lambda a: f1.bound_macro_f1_loss(TRUTH, THEIRS.predictions, OURS.predictions, 2, UNITS, a)),
    ({"metric": "macro_f1", **LEAST}, lambda a: f1.bound_macro_f1(TRUTH, OURS.predictions, 2, UNITS, a)),
    ({"metric": "auroc_ill", **NO_WORSE}, lambda a: auc.bound_auc_loss(*COLUMNS, ILL, UNITS, a)),
    ({"metric": "auroc_ill", **LEAST}, lambda a: auc.bound_auc(COLUMNS[1], ILL, UNITS, a)),
    ({"metric": "average_precision_ill", **NO_WORSE},
     lambda a: precision.bound_average_precision_loss(*COLUMNS, ILL, UNITS, a)),
    ({"metric": "average_precision_ill", **LEAST},
     lambda a: precision.bound_average_precision(COLUMNS[1], ILL, UNITS, a)),
    ({"metric": "ece", **NO_WORSE}, lambda a: calibration.bound_ece_rise(*SURE, UNITS, a)),
    ({"metric": "ece", **MOST}, lambda a: calibration.bound_ece(*SURE[1], UNITS, a)),
    ({"metric": "brier", **NO_WORSE}, lambda a: mean(BRIER[1] - BRIER[0], a, -1.0)),
    ({"metric": "brier", **MOST}, lambda a: mean(BRIER[1], a)),
    ({"metric": "mean_dice", **NO_WORSE}, lambda a: mean(DICE[0] - DICE[1], a, -1.0)),
    ({"metric": "mean_dice", **LEAST}, lambda a: mean(DICE[1], a)),
    ({"metric": "mean_dice", "cases_losing": 0.02, **MOST}, lambda a: rate(DICE[0] - DICE[1] > 0.02, a)),
    ({"metric": "hd95_mm_ill", "at_worst": 5.0, **NO_WORSE}, lambda a: mean(MM[1] - MM[0], a, -5.0, 5.0)),
    ({"metric": "hd95_mm_ill", "at_worst": 5.0, **MOST}, lambda a: mean(MM[1], a, high=5.0)),
    ({"metric": "score.py:values", "at_worst": 1.0, **NO_WORSE}, lambda a: mean(DICE[0] - DICE[1], a, -1.0)),
    ({"metric": "score.py:values", "at_worst": 1.0, **LEAST}, lambda a: mean(DICE[1], a, -1.0)),
    ({"metric": "score.py:function", "at_worst": 1.0, **NO_WORSE}, own),
    ({"metric": "score.py:values", "cases_losing": 0.02, **MOST}, lambda a: rate(DICE[0] - DICE[1] > 0.02, a)),
]  # fmt: skip


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unseen.DRAWS", "unseen.FEWEST_DRAWS", "bootstrap.DRAWS", "bootstrap.CALLBACK_DRAWS"):
        monkeypatch.setattr(f"edgeft.evaluate.{name}", 400)


@pytest.mark.parametrize(("keys", "bound"), KINDS, ids=["-".join(map(str, keys.values())) for keys, _ in KINDS])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.usefixtures("fewer_draws")
def test_a_gate_decides_on_the_bound_of_its_kind_at_its_own_confidence(
    keys: Mapping[str, Any], bound: Callable[[float], Bound], confidence: float
) -> None:
    gate = Gate.model_validate({**keys, "confidence": confidence})
    ours, theirs = ((lambda rows, side=side: float(side[rows].mean())) if "function" in gate.metric else side
                    for side in (DICE[1], DICE[0]))  # fmt: skip
    verdict = decide_data_gate(gate, "t", OURS, THEIRS, UNITS, truth=TRUTH, custom=CustomValues(ours, theirs))
    expected, other = bound(1 - confidence), bound((1 - confidence) * 3)
    assert verdict.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert verdict.interval != pytest.approx((other.low, other.high), abs=1e-6), "the bound follows the confidence"


WORLDS = [*decided.losses(SHARE), *decided.alone(SHARE)]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.kind)
@pytest.mark.usefixtures("fewer_draws")
def test_every_kind_of_gate_passes_what_is_at_its_limit_in_one_of_twenty(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("rows_for_loss", "rows_for_rate"):  # how many cases would be enough takes long, and is not asked here
        monkeypatch.setattr(f"edgeft.evaluate.kinds.rates.{place}", lambda *_: None)
    passed, naive = rates(world, N, TRIALS)
    assert passed <= highest(TRIALS)
    assert naive > 0.3
