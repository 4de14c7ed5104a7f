"""How many cases a gate needs before a harmless artefact passes it, and how long a decision on 10,000 cases takes.

`python -m bench.gate_power [TRIALS]` prints both tables. The artefacts: what int8 compression does where it does well.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from bench import decided_worlds as decided
from bench import gate_worlds as plain
from bench import score_worlds as scored
from bench.gate_world import World
from bench.gates import rates
from edgeft.evaluate import bootstrap, unseen

TRIALS = 150
TRIALS_OF = {"AUC": 100, "average precision": 100, "ECE": 100, "Brier": 100}
"""Of kinds that take longest; the first that a kind's name holds."""
SIZES = (100, 200, 400, 800, 1600)
DRAWS = 500
CASES = 10_000
GOAL_SECONDS = 2.0
MARGIN = 0.02


def harmless(margin: float = MARGIN) -> tuple[World, ...]:
    """Worlds with an artefact that does less harm than the margin, which each gate allows."""
    same = 0.001
    return (
        plain.flips(same, same, limit=margin),
        plain.flips(0.01, 0.01, limit=margin),
        plain.flips(0.01, 0.01, rows=4, limit=margin),
        plain.sensitivity(same, 0.3, limit=margin),
        plain.tails(0.001, 0.3, limit=margin),
        plain.f1((0.25,) * 4, (same,) * 4, limit=margin),
        plain.f1((0.9, 0.1), (same,) * 2, limit=margin),
        scored.auc_noise(2, 0.1, 0.5, limit=margin),
        scored.auc_noise(2, 0.1, 0.1, limit=margin),
        scored.precision_noise(2, 0.1, 0.5, limit=margin),
        scored.ece_rise(0.02, 0.0, "mass", limit=margin),
        scored.brier_struck(0.001, limit=margin),
    )


def power(trials: int | None = None, sizes: tuple[int, ...] = SIZES) -> None:
    """Print a Markdown row for each artefact: the share of gate sets on which it passes. trials: in every cell."""
    print(f"| gate, margin {MARGIN:g} | artefact | {' | '.join(f'n = {n}' for n in sizes)} |")
    print("|---|---|" + "---|" * len(sizes))
    for world in harmless():
        count = trials or next((few for word, few in TRIALS_OF.items() if word in world.kind), TRIALS)
        cells = " | ".join(f"{rates(world, n, count)[0]:.0%}" for n in sizes)
        print(f"| {world.kind} | {world.data} | {cells} |", flush=True)


def seconds() -> bool:
    """Print the processor time of one decision of each kind on 10,000 cases; whether all are under the goal."""
    print(f"\n| gate | processor seconds for {CASES:,} cases |\n|---|---|")
    slowest, shown = 0.0, set()
    own = [decided.own_metric(0.01, 0.5, callback=callback) for callback in (False, True)]
    for world in (*harmless(), *own):
        if world.kind in shown:
            continue
        shown.add(world.kind)
        start = time.process_time()
        world.draw(np.random.default_rng(0), CASES, 1.0)
        took = time.process_time() - start
        slowest = max(slowest, took)
        print(f"| {world.kind} | {took:.2f} |", flush=True)
    print(f"\nslowest {slowest:.2f} s, goal under {GOAL_SECONDS:g}")
    return slowest < GOAL_SECONDS


def main(trials: int | None = None) -> bool:
    """Times with all draws first, then power with fewer."""
    quick = seconds()
    unseen.DRAWS = unseen.FEWEST_DRAWS = bootstrap.DRAWS = DRAWS
    power(trials)
    return quick


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else None) else 1)
