"""Calibration errors and Brier scores against published values and scikit-learn, and why the source is treated apart."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from edgeft.evaluate.calibration import bin_of, bound_ece, bound_ece_rise, brier_cases, ece
from edgeft.evaluate.statistics import Undecidable, unseen_rate

# torchmetrics 1.9, BinaryCalibrationError(n_bins=2, norm="l1"), the example of its documentation: 0.2900.
CONFIDENCE = np.array([0.25, 0.25, 0.55, 0.75, 0.75])
CORRECT = np.array([False, False, True, True, True])


def answers(n: int, sharper: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of which `sharper` is too much."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.6, 0.9, n)
    return confidence, random.random(n) < confidence - sharper


def test_equal_width_is_torchmetrics_example() -> None:
    assert ece(CONFIDENCE, CORRECT, "width", 2) == pytest.approx(0.29, abs=1e-12)


def test_bins_close_on_the_right_and_hold_equal_mass() -> None:
    """Naeini et al. 2015 and Guo et al. 2017: the bin of 0.1 is the first of ten."""
    assert bin_of(np.array([0.0, 0.1, 0.1001, 1.0]), "width").tolist() == [0, 0, 1, 9]
    assert np.bincount(bin_of(np.random.default_rng(0).random(500) ** 5, "mass")).tolist() == [50] * 10


@pytest.mark.parametrize("binning", ["mass", "width"])
def test_ece_by_hand(binning: str) -> None:
    confidence, correct = answers(300, 0.05, 1)
    place = bin_of(confidence, binning)  # type: ignore[arg-type]
    gaps = [abs(confidence[place == b].mean() - correct[place == b].mean()) * (place == b).mean() for b in set(place)]
    assert ece(confidence, correct, binning) == pytest.approx(sum(gaps))  # type: ignore[arg-type]


def test_brier_is_scikit_learns() -> None:
    """Binary: (p - y)**2. The worst answer scores 1, and several classes are halved into [0, 1]."""
    random = np.random.default_rng(5)
    p, truth = random.random(200), random.integers(0, 2, 200)
    found = brier_cases(np.stack([1 - p, p], axis=1), truth)
    assert found.mean() == pytest.approx(brier_score_loss(truth, p))
    assert brier_cases(np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.array([2, 1])).tolist() == [1.0, 0.0]
    with pytest.raises(Undecidable):
        brier_cases(np.array([[2.0, -1.0]]), np.array([0]))


def test_the_bound_covers_and_is_not_useless() -> None:
    bound = bound_ece(*answers(2000, 0.08, 2), np.arange(2000), 0.05)
    assert 0.03 < bound.low < 0.08 < bound.high < 0.13


def test_a_calibrated_model_is_not_shown_to_be_calibrated_by_few_cases() -> None:
    """The plug-in value of a perfectly calibrated model is far from 0 at 100 cases; its lower bound is 0."""
    bound = bound_ece(*answers(100, 0.0, 3), np.arange(100), 0.05)
    assert bound.estimate > 0.05 and bound.low == 0 and bound.high > 0.1


def test_sure_and_right_in_few_cases_is_not_certain() -> None:
    """30 answers, all sure and right: as much as 30 units without an event leave possible, alone and against another
    (to the 2% that 4,000 draws may be off)."""
    sure, right = np.ones(30), np.ones(30, bool)
    left = unseen_rate(30, 0.05)
    assert bound_ece(sure, right, np.arange(30), 0.05).high == pytest.approx(left, rel=0.03)
    assert bound_ece_rise((sure, right), (sure, right), np.arange(30), 0.05).high == pytest.approx(left, rel=0.03)


def test_the_excess_of_a_calibrated_source_is_not_given_away() -> None:
    """A source that is perfect, an artefact 0.08 too sure, 200 cases: the plug-in difference is well below 0.08 on
    average, and a gate on it or on its percentile bootstrap would pass; the bound is below in at most 5%."""
    n, runs, points, wrong = 200, 120, 0.0, 0
    for seed in range(runs):
        source, artefact = answers(n, 0.0, seed), answers(n, 0.08, 1000 + seed)
        bound = bound_ece_rise(source, artefact, np.arange(n), 0.05)
        points += bound.estimate / runs
        wrong += bound.high < 0.08
    assert points < 0.06
    assert wrong / runs <= 0.05 + 2.33 * (0.05 * 0.95 / runs) ** 0.5


def test_a_rise_is_the_mirror_of_a_fall() -> None:
    source, artefact = answers(400, 0.0, 1), answers(400, 0.15, 2)
    rise = bound_ece_rise(source, artefact, np.arange(400), 0.05)
    fall = bound_ece_rise(artefact, source, np.arange(400), 0.05)
    assert (fall.estimate, fall.low, fall.high) == pytest.approx((-rise.estimate, -rise.high, -rise.low))


def test_units_count_and_what_is_no_probability_is_refused() -> None:
    confidence, correct = answers(60, 0.1, 7)
    once = bound_ece(confidence, correct, np.arange(60), 0.05)
    copied = bound_ece(np.repeat(confidence, 6), np.repeat(correct, 6), np.repeat(np.arange(60), 6), 0.05)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), rel=1e-9)
    for bad in (np.full(60, np.nan), np.full(60, 1.5)):
        with pytest.raises(Undecidable):
            bound_ece(bad, correct, np.arange(60), 0.05)
