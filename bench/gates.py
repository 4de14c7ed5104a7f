"""How often each kind of gate passes an artefact exactly as bad as its limit: at most 5%, or the bound is wrong.

`python -m bench gates` runs all worlds, printing a line for each as it goes; `python -m bench.gates TRIALS WORD` those
whose kind holds a word. Beside it: what a gate on the point estimate passes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np

from bench import decided_worlds as decided
from bench import gate_worlds as plain
from bench import score_worlds as scored
from bench.gate_world import ALPHA, World
from edgeft.evaluate import bootstrap, unseen

TRIALS = 1000
TRIALS_OF = {
    "own metric": 400, "decided": 200, "Brier": 1500, "macro F1": 400, "AUC": 400, "ECE": 400, "average precision": 200,
}  # fmt: skip
"""Of kinds that take long, or little time; the first that a kind's name holds. A gate that decides also seeks the
number of cases that would do, which takes longer than its bound."""
DRAWS = 500
"""Instead of 4,000, for time: fewer draws move a bound, not how often it holds."""
SIZES = (50, 100, 200, 400, 800)
ERRORS = 3.0
"""Standard errors of a simulated rate that a correct bound may lie above 5% by chance: once in 700 cells."""


def worlds() -> Iterator[World]:
    """Every gate kind in every world."""
    yield from (plain.flips(0.02, 0.0), plain.flips(0.03, 0.01), plain.flips(0.1, 0.05), plain.flips(0.05, 0.0, 4))
    yield from (plain.rate("accuracy", 0.9, high=False), plain.rate("accuracy", 0.9, high=False, rows=4))
    yield from (plain.rate("flip rate", 0.05, high=True), plain.rate("flip rate", 0.05, high=True, rows=4))
    yield from (plain.sensitivity(0.05, 0.3), plain.sensitivity(0.1, 0.1))
    yield from (plain.tails(share, loss) for share in (0.01, 0.02, 0.05, 0.1) for loss in (0.3, 0.6))
    yield from (plain.tails(0.05, 0.6, rows=4), plain.catastrophes(0.02, 0.3), plain.catastrophes(0.1, 0.6))
    for callback in (False, True):
        yield decided.own_metric(0.05, 0.6, callback=callback)
        yield from (decided.own_metric(0.02, 60, worst=60, base=-5, callback=callback, rows=rows) for rows in (1, 4))
    yield from (plain.f1((0.25,) * 4, (0.05,) * 4), plain.f1((0.25,) * 4, (0.1,) * 4, rows=4))
    yield from (plain.f1((0.9, 0.1), (0.0, 0.2)), plain.f1((0.7, 0.2, 0.1), (0.02, 0.1, 0.3)))
    yield from (plain.f1((0.9, 0.1), (0.0, 0.1), wrong=0.0), plain.f1_absolute((0.9, 0.1), 0.05))
    yield plain.f1_absolute((0.25,) * 4, 0.1)
    yield from (scored.auc_noise(2, 0.5, 0.5), scored.auc_noise(2, 0.5, 0.1), scored.auc_noise(2, 0.7, 0.5, rows=4))
    yield from (scored.auc_struck(9, 0.02, 0.5), scored.auc_struck(9, 0.05, 0.5), scored.auc_struck(2, 0.1, 0.2))
    yield from (scored.auc_absolute(0.95, 0.5), scored.auc_absolute(0.9, 0.1))
    yield from (scored.precision_noise(2, 0.5, 0.5), scored.precision_noise(2, 0.5, 0.1))
    yield from (scored.precision_struck(0.05, 0.5), scored.precision_struck(0.1, 0.1))
    yield from (scored.precision_absolute(2, 0.5), scored.precision_absolute(2, 0.1))
    yield from (
        scored.ece_absolute(0.1, "mass"),
        scored.ece_absolute(0.1, "width"),
        scored.ece_absolute(0.1, "mass", 4),
    )
    yield from (scored.ece_rise(0.0, 0.05, "mass"), scored.ece_rise(0.05, 0.05, "width"), scored.ece_struck(0.05))
    yield from (scored.brier_struck(0.02), scored.brier_struck(0.1))
    yield from (*decided.losses(0.05), *decided.alone(0.05))


def rates(world: World, n: int, trials: int, *, kept: float = 1.0, seed: int = 0) -> tuple[float, float]:
    """(share passed by edgeft, share passed by the point estimate) of `trials` gate sets of n cases. kept: see
    gate_world."""
    random = np.random.default_rng([seed, n])
    answers = np.array([world.draw(random, n, kept) for _ in range(trials)])
    passed, naive = answers.mean(axis=0)
    return float(passed), float(naive)


def trials_of(world: World) -> int:
    """Gate sets drawn in each cell where nobody says how many."""
    return next((trials for word, trials in TRIALS_OF.items() if word in world.kind), TRIALS)


def highest(trials: int) -> float:
    """The rate of false passes that `trials` may show of a bound that holds."""
    return ALPHA + ERRORS * (ALPHA * (1 - ALPHA) / trials) ** 0.5


def false_passes(chosen: Iterable[World], trials: int | None = None, sizes: tuple[int, ...] = SIZES) -> bool:
    """Print a Markdown row for each world; whether no cell is above `highest`. trials: None: as many as `trials_of`."""
    print(f"| gate | data, truly at the limit | {' | '.join(f'n = {n}' for n in sizes)} | point estimate | gate sets |")
    print("|---|---|" + "---|" * (len(sizes) + 2))
    right = True
    unseen.DRAWS = unseen.FEWEST_DRAWS = bootstrap.DRAWS = DRAWS
    bootstrap.CALLBACK_DRAWS = DRAWS // 4
    for world in chosen:
        count = trials or trials_of(world)
        cells, limit = [rates(world, n, count) for n in sizes], highest(count)
        right = right and all(passed <= limit for passed, _ in cells)
        shown = " | ".join(f"**{p:.1%}**" if p > limit else f"{p:.1%}" for p, _ in cells)
        print(f"| {world.kind} | {world.data} | {shown} | {cells[-1][1]:.0%} | {count:,} |", flush=True)
    print("\nno bound is refuted" if right else "\nin bold: by three standard errors above 5%, the bound is refuted")
    return right


def main(trials: int | None = None, word: str = "") -> bool:
    """All tables; whether every kind holds."""
    return false_passes([world for world in worlds() if word in world.kind], trials)


if __name__ == "__main__":
    start = time.perf_counter()
    held = main(int(sys.argv[1]) if len(sys.argv) > 1 else None, sys.argv[2] if len(sys.argv) > 2 else "")
    print(f"{time.perf_counter() - start:.0f} s")
    sys.exit(0 if held else 1)
