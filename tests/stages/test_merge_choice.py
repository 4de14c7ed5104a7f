"""Which merge is taken: the faithful one, unless the other is shown to score better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeft.stages.merge import _shown_better, _why
from edgeft.stages.merging import Scored


def scored(base: Any, right: int, kl: float, n: int = 700) -> Scored:
    """A merge that answers the first `right` of n cases rightly."""
    correct = np.arange(n) < right
    return Scored(base, None, 0.0, kl, 1.0, 0.0, {"accuracy": right / n}, correct)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("right", "better"), [(570, False), (571, False), (574, False), (575, True), (600, True), (560, False)]
)
def test_a_gain_must_be_more_than_chance(right: int, better: bool) -> None:
    """Five gained and none lost is p = 0.0625; four is 0.125."""
    faithful = scored("quantised", 570, 1e-5)
    assert _shown_better(scored("original", right, 1e-2), faithful, "accuracy") is better


def test_the_reason_names_both_figures() -> None:
    faithful, other = scored("quantised", 570, 1e-5), scored("original", 571, 1e-2)
    assert _why(faithful, other, "accuracy", asked=False).startswith(
        "closer to the unmerged model, KL 1e-05 against 0.01"
    )
    assert "0.8143 against 0.8157" in _why(faithful, other, "accuracy", asked=False)
    assert _why(other, faithful, "accuracy", asked=False).startswith("shown to score better")
