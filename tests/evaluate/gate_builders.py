"""Small scores for the tests of gates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.task import Score


def score_of(truth: NDArray[Any], predictions: NDArray[Any], classes: int) -> Score:
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (truth, predictions), 1)
    correct = truth == predictions
    return Score({"accuracy": float(correct.mean()) if len(truth) else 0.0}, correct, predictions, confusion)


def flipped(n: int, lost: int, gained: int, classes: int = 4, right: float = 0.9) -> tuple[NDArray[Any], Score, Score]:
    """(truth, source, artefact): exactly `lost` and `gained` flips, spread over the rows."""
    random = np.random.default_rng(n + lost + gained)
    truth = random.integers(0, classes, n)
    before = truth.copy()
    before[: round(n * (1 - right))] += 1
    before %= classes
    after = before.copy()
    hits, misses = np.flatnonzero(before == truth), np.flatnonzero(before != truth)
    after[hits[:lost]] = (truth[hits[:lost]] + 1) % classes
    after[misses[:gained]] = truth[misses[:gained]]
    order = random.permutation(n)
    truth, before, after = truth[order], before[order], after[order]
    return truth, score_of(truth, before, classes), score_of(truth, after, classes)
