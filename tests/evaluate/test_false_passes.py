"""Every kind of gate passes what is exactly as bad as its limit in at most 5%: the bench, reduced to a minute.

`python -m bench gates` has all worlds, five sizes and 1,000 gate sets in each. Here the sizes are those at which each
bound has least to spare.
"""

from __future__ import annotations

import pytest

from bench import decided_worlds as decided
from bench import gate_worlds as plain
from bench import score_worlds as scored
from bench.gate_world import World
from bench.gates import highest, rates

WORLDS = [
    (plain.flips(0.02, 0.0), 200, 1500),
    (plain.flips(0.05, 0.0, rows=4), 400, 1500),
    (plain.rate("accuracy", 0.9, high=False), 50, 1500),
    (plain.rate("flip rate", 0.05, high=True), 200, 1500),
    (plain.rate("flip rate", 0.05, high=True, rows=4), 800, 1500),
    (plain.sensitivity(0.1, 0.1), 800, 1500),
    (plain.tails(0.1, 0.6), 400, 300),
    (plain.catastrophes(0.02, 0.3), 800, 1500),
    (decided.own_metric(0.1, 0.6), 400, 250),
    (decided.own_metric(0.1, 0.6, callback=True), 200, 250),
    (plain.f1((0.9, 0.1), (0.0, 0.2)), 100, 300),
    (plain.f1_absolute((0.9, 0.1), 0.05), 200, 300),
    (scored.auc_struck(9, 0.05, 0.5), 400, 150),
    (scored.precision_struck(0.1, 0.1), 400, 150),
    (scored.ece_absolute(0.1, "width"), 400, 300),
    (scored.ece_rise(0.0, 0.05, "mass"), 200, 300),
    (scored.brier_struck(0.1), 200, 400),
]

NAMES = [f"{world.kind}, {world.data}" for world, _, _ in WORLDS]


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unseen.DRAWS", "unseen.FEWEST_DRAWS", "bootstrap.DRAWS", "bootstrap.CALLBACK_DRAWS"):
        monkeypatch.setattr(f"edgeft.evaluate.{name}", 400)


@pytest.mark.parametrize(("world", "n", "trials"), WORLDS, ids=NAMES)
def test_a_gate_passes_what_is_at_its_limit_in_one_of_twenty(world: World, n: int, trials: int) -> None:
    """The point estimate passes a third of them at least: the world is not one that every rule would refuse."""
    passed, naive = rates(world, n, trials)
    assert passed <= highest(trials)
    assert naive > 0.3


@pytest.mark.parametrize(("world", "n", "trials"), WORLDS, ids=NAMES)
def test_a_bound_made_too_narrow_is_caught(world: World, n: int, trials: int) -> None:
    """With a third of its width every one of the bounds above is refuted (with half of it all but that of a rising ECE,
    which has the most to spare)."""
    few = min(trials, 300)
    assert rates(world, n, few, kept=1 / 3)[0] > highest(few)
