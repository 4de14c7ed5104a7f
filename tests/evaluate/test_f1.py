"""Macro F1 where a class is rare: its bound, and why the plain bootstrap was replaced."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from edgeft.evaluate.f1 import bound_macro_f1, bound_macro_f1_loss
from edgeft.evaluate.statistics import unseen_rate


def rare(n: int, seed: int, lost: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth, source, artefact): a tenth of the cases in class 1, of which the artefact loses a share."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < 0.1).astype(np.int64)
    return truth, truth, np.where((truth == 1) & (random.random(n) < lost), 0, truth)


def test_estimates_are_scikit_learns() -> None:
    truth, source, artefact = rare(400, 1, 0.3)
    before, after = (f1_score(truth, given, average="macro") for given in (source, artefact))
    assert bound_macro_f1(truth, artefact, 2, np.arange(400), 0.05).estimate == pytest.approx(after)
    assert bound_macro_f1_loss(truth, source, artefact, 2, np.arange(400), 0.05).estimate == pytest.approx(
        before - after
    )


def test_no_lost_case_of_ten_rare_ones_shows_little() -> None:
    """With 10 rare cases in 100 and none lost, a quarter of the rare ones may be lost: their half of the score then
    falls by a seventh."""
    truth = (np.arange(100) < 10).astype(np.int64)
    bound = bound_macro_f1_loss(truth, truth, truth, 2, np.arange(100), 0.05)
    left = 1 - unseen_rate(10, 0.05)
    assert bound.high > (1 - 2 * left / (1 + left)) / 2
    even = np.arange(100) % 2
    assert bound_macro_f1_loss(even, even, even, 2, np.arange(100), 0.05).high < bound.high / 2


def test_a_rare_class_does_not_slip_through() -> None:
    """100 cases, 10 rare, a fifth of the rare ones truly lost: the loss of macro F1 is then 0.0616. A bootstrap that
    knows only what it has seen passes a fifth of these."""
    truth_f1 = 2 * 0.8 / 1.8
    common = 2 * 0.9 / (0.9 + 0.92)
    limit, runs, wrong = 1 - (truth_f1 + common) / 2, 200, 0
    for seed in range(runs):
        wrong += bound_macro_f1_loss(*rare(100, seed, 0.2), 2, np.arange(100), 0.05).high <= limit
    assert limit == pytest.approx(0.0610, abs=5e-4)
    assert wrong / runs <= 0.05 + 2.33 * (0.05 * 0.95 / runs) ** 0.5


def test_copied_rows_do_not_narrow_it() -> None:
    truth, source, artefact = rare(120, 3, 0.3)
    once = bound_macro_f1_loss(truth, source, artefact, 2, np.arange(120), 0.05)
    four = [np.repeat(part, 4) for part in (truth, source, artefact)]
    copied = bound_macro_f1_loss(*four, 2, np.repeat(np.arange(120), 4), 0.05)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), rel=0.01)
