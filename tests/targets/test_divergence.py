"""Divergence only ranks, but it must rank: zero for equal outputs, more for more noise, NaN where nothing compares."""

from __future__ import annotations

import numpy as np
import pytest

from edgeft.targets.search.divergence import divergence, noise_ratio

LOGITS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


def test_equal_outputs_do_not_diverge_and_more_noise_diverges_more() -> None:
    noise = np.random.default_rng(1).normal(size=LOGITS.shape)
    found = [divergence({"logits": LOGITS}, {"logits": LOGITS + scale * noise}) for scale in (0, 0.01, 0.1, 1.0)]
    assert found[0] == 0 and found == sorted(found) and found[1] < 1e-3 < found[3]


def test_a_constant_added_to_every_logit_is_no_divergence() -> None:
    assert divergence({"logits": LOGITS}, {"logits": LOGITS + 7}) == pytest.approx(0, abs=1e-9)


def test_the_kl_is_that_of_two_distributions_worked_by_hand() -> None:
    ours, theirs = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    assert divergence({"logits": ours}, {"logits": theirs}) == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(5))


def test_segmentation_logits_count_every_pixel_and_one_class_is_a_sigmoid() -> None:
    image = np.random.default_rng(2).normal(size=(2, 3, 4, 4))
    assert divergence({"logits": image}, {"logits": image * 1.1}) > 0
    single = np.array([[0.3], [-2.0]])
    double = np.concatenate([single, np.zeros_like(single)], axis=1)
    other, wide = single + 0.5, np.concatenate([single + 0.5, np.zeros_like(single)], axis=1)
    binary = divergence({"logits": single}, {"logits": other})
    assert binary == pytest.approx(divergence({"logits": double}, {"logits": wide}))


def test_other_outputs_go_by_noise_over_signal() -> None:
    values = np.ones((4, 8))
    assert divergence({"embedding": values}, {"embedding": values * 1.1}) == pytest.approx(0.01)
    assert noise_ratio(values, values * 1.1) == pytest.approx(0.01)


def test_what_cannot_be_compared_is_nan() -> None:
    assert np.isnan(divergence({"logits": LOGITS}, {}))
    assert np.isnan(divergence({"logits": LOGITS}, {"logits": LOGITS[:3]}))
