"""Areas under ROC curves against a published example, brute force and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, rankdata
from sklearn.metrics import roc_auc_score

from edgeft.evaluate.auc import bound_auc, bound_auc_loss, delong_interval, delong_variance, midranks, placements
from edgeft.evaluate.statistics import Undecidable

# DeLong, DeLong & Clarke-Pearson 1988: ovarian cancer; albumin, total protein, K-G score, did not benefit (0: positive).
# The 43 patients without missing values, as in the SAS/STAT User's Guide, "Comparing Receiver Operating Characteristic
# Curves" (PROC LOGISTIC).
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1"""
TABLE = np.array(PATIENTS.split(), dtype=np.float64).reshape(-1, 4)
POSITIVE = TABLE[:, 3] == 0
ALBUMIN, PROTEIN, SCORE = -TABLE[:, 0], -TABLE[:, 1], TABLE[:, 2]
ALONE = np.arange(43)


@pytest.mark.parametrize(
    ("scores", "area", "error"), [(ALBUMIN, 0.7366, 0.0927), (SCORE, 0.7258, 0.1028), (PROTEIN, 0.6478, 0.1000)]
)
def test_areas_and_errors_are_those_of_the_sas_guide(scores: np.ndarray, area: float, error: float) -> None:
    components = placements(scores, POSITIVE)
    assert components[POSITIVE].mean() == pytest.approx(area, abs=5.1e-5)
    assert components[~POSITIVE].mean() == pytest.approx(area, abs=5.1e-5)
    assert delong_variance(components, POSITIVE, ALONE) ** 0.5 == pytest.approx(error, abs=5.1e-5)


def test_the_paired_difference_is_that_of_the_sas_guide() -> None:
    """Total protein less K-G score: -0.0780, standard error 0.1046, 95% -0.2830 to 0.1271, chi-square 0.5554."""
    components = placements(PROTEIN, POSITIVE) - placements(SCORE, POSITIVE)
    estimate, variance = float(components[POSITIVE].mean()), delong_variance(components, POSITIVE, ALONE)
    assert (estimate, variance**0.5) == pytest.approx((-0.0780, 0.1046), abs=5.1e-5)
    assert delong_interval(estimate, variance, 0.025) == pytest.approx((-0.2830, 0.1271), abs=5.1e-5)
    assert estimate**2 / variance == pytest.approx(0.5554, abs=5.1e-5)


def test_midranks_areas_and_components_by_other_means() -> None:
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 9, 90).astype(float), random.random(90) < 0.4
    assert midranks(scores).tolist() == rankdata(scores).tolist()
    components, ups, downs = placements(scores, positive), scores[positive], scores[~positive]
    kernel = (ups[:, None] > downs) + 0.5 * (ups[:, None] == downs)
    assert components[positive] == pytest.approx(kernel.mean(axis=1))
    assert components[~positive] == pytest.approx(kernel.mean(axis=0))
    area = components[positive].mean()
    assert area == pytest.approx(roc_auc_score(positive, scores))
    assert area == pytest.approx(mannwhitneyu(ups, downs).statistic / kernel.size)
    expected = kernel.mean(axis=1).var(ddof=1) / len(ups) + kernel.mean(axis=0).var(ddof=1) / len(downs)
    assert delong_variance(components, positive, np.arange(90)) == pytest.approx(expected, rel=1e-12)


def test_obuchowski_gives_copied_rows_no_weight() -> None:
    """Each patient five times over: the error stays that of 43 patients, and that of rows taken as independent does not."""
    scores, positive, units = np.repeat(SCORE, 5), np.repeat(POSITIVE, 5), np.repeat(ALONE, 5)
    components = placements(scores, positive)
    assert delong_variance(components, positive, units) ** 0.5 == pytest.approx(0.1028, abs=5.1e-5)
    assert delong_variance(components, positive, np.arange(215)) ** 0.5 < 0.05


def test_obuchowskis_covariance_of_classes_within_units_counts() -> None:
    """Units that hold both classes and move as one: the shared shift cancels in the area, so the error is smaller."""
    random = np.random.default_rng(2)
    shift, units = np.repeat(random.normal(0, 3, 60), 2), np.repeat(np.arange(60), 2)
    positive = np.tile([True, False], 60)
    areas = []
    for seed in range(400):
        noise = np.random.default_rng(seed)
        moved = np.repeat(noise.normal(0, 3, 60), 2) + positive + noise.normal(0, 1, 120)
        areas.append(placements(moved, positive)[positive].mean())
    components = placements(shift + positive + random.normal(0, 1, 120), positive)
    found = delong_variance(components, positive, units) ** 0.5
    assert found == pytest.approx(np.std(areas), rel=0.3)
    assert delong_variance(components, positive, np.arange(120)) ** 0.5 > 1.5 * found


def test_a_perfect_area_is_not_certain() -> None:
    """DeLong refuses; the bound is at least as wide as 20 positives without a miss leave possible."""
    positive = np.arange(40) < 20
    scores = positive.astype(float)
    components = placements(scores, positive)
    with pytest.raises(Undecidable, match="variance is 0"):
        delong_interval(1.0, delong_variance(components, positive, np.arange(40)), 0.05)
    bound = bound_auc(scores, positive, np.arange(40), 0.05)
    assert bound.estimate == 1.0 and bound.low < 0.05 ** (1 / 20) and bound.high == pytest.approx(1.0)
    same = bound_auc_loss(scores, scores, positive, np.arange(40), 0.05)
    assert same.estimate == 0 and same.high > 1 - 0.05 ** (1 / 20) and same.low == pytest.approx(-same.high)


def test_the_bound_is_near_delongs_where_that_is_right() -> None:
    """2,000 cases of overlapping normals: no narrower, and at most a fifth wider."""
    random = np.random.default_rng(4)
    positive = random.random(2000) < 0.5
    source = positive + random.normal(0, 1, 2000)
    artefact = source + random.normal(0, 0.5, 2000)
    components = placements(source, positive) - placements(artefact, positive)
    bound = bound_auc_loss(source, artefact, positive, np.arange(2000), 0.05)
    low, high = delong_interval(bound.estimate, delong_variance(components, positive, np.arange(2000)), 0.05)
    assert low > bound.low > low - 0.2 * (high - low) and high < bound.high < high + 0.2 * (high - low)
    assert "DeLong" in bound.method


def test_copied_units_do_not_narrow_the_bound() -> None:
    once = bound_auc(SCORE, POSITIVE, ALONE, 0.05)
    copied = bound_auc(np.repeat(SCORE, 4), np.repeat(POSITIVE, 4), np.repeat(ALONE, 4), 0.05)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), rel=1e-9)


def test_one_class_or_a_nan_is_undecidable() -> None:
    for scores, positive in ((SCORE, np.ones(43, bool)), (np.full(43, np.nan), POSITIVE)):
        with pytest.raises(Undecidable):
            bound_auc(scores, positive, ALONE, 0.05)
