"""Average precision and perplexity against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from edgeft.evaluate.precision import (
    average_precision,
    bound_average_precision,
    bound_average_precision_loss,
    bound_perplexity,
    bound_perplexity_rise,
)
from edgeft.evaluate.statistics import Undecidable


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_average_precision_is_scikit_learns(decimals: int) -> None:
    """Ties included; and the example of its documentation: 0.83."""
    random = np.random.default_rng(1)
    positive = random.random(300) < 0.2
    scores = np.round(positive + random.normal(0, 1, 300), decimals)
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))
    example = average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    assert example == pytest.approx(0.8333, abs=5e-5)


def test_weights_are_scikit_learns_sample_weights() -> None:
    from edgeft.evaluate.precision import _Ranking

    random = np.random.default_rng(2)
    positive, scores = random.random(80) < 0.3, np.round(random.random(80), 1)
    weights = random.exponential(size=(3, 80))
    expected = [average_precision_score(positive, scores, sample_weight=row) for row in weights]
    assert _Ranking(scores, positive).precision(weights) == pytest.approx(expected)


def test_a_perfect_ranking_is_not_certain_and_a_loss_is_bounded() -> None:
    positive = np.arange(200) < 60
    perfect = positive.astype(float)
    bound = bound_average_precision(perfect, positive, np.arange(200), 0.05)
    assert bound.estimate == 1 and bound.low < 0.05 ** (1 / 60) + 0.005
    worse = perfect.copy()
    worse[:12] = -1
    loss = bound_average_precision_loss(perfect, worse, positive, np.arange(200), 0.05)
    lost = 1 - average_precision_score(positive, worse)
    assert loss.estimate == pytest.approx(lost) and loss.low < lost < loss.high
    with pytest.raises(Undecidable):
        average_precision(perfect, np.ones(200, bool))


def test_perplexity_is_that_of_all_tokens() -> None:
    """Two texts, 10 tokens of loss 1 and 30 of loss 2: exp(70 / 40)."""
    losses, tokens = np.array([10.0, 60.0]), np.array([10.0, 30.0])
    assert bound_perplexity(losses, tokens, np.arange(2), 0.05).estimate == pytest.approx(np.exp(1.75))
    random = np.random.default_rng(0)
    tokens = random.integers(20, 200, 500).astype(float)
    losses = tokens * random.gamma(20, 0.1, 500)
    rise = bound_perplexity_rise(losses, losses * 1.02, tokens, np.arange(500), 0.05)
    rate = losses.sum() / tokens.sum()
    assert rise.estimate == pytest.approx(np.exp(1.02 * rate) - np.exp(rate))
    assert rise.low < rise.estimate < rise.high and rise.high - rise.low < 0.05
    with pytest.raises(Undecidable):
        bound_perplexity(losses, np.zeros(500), np.arange(500), 0.05)
