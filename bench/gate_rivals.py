"""What the familiar methods pass in worlds in which they do not hold: why others decide (docs/decisions/0021).

`python -m bench.gate_rivals [TRIALS]`. The artefact is exactly as bad as the margin, so 5% is what a method promises.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from scipy.special import bdtr, ndtri

from bench.gate_world import ALPHA, Random
from edgeft.evaluate.auc import delong_variance, placements
from edgeft.evaluate.bootstrap import bound_from_sums, macro_f1, macro_f1_sums
from edgeft.evaluate.means import bootstrap_t
from edgeft.evaluate.paired import tango_interval
from edgeft.evaluate.unconditional import bound_loss

TRIALS = 400


def tango(margin: float, n: int) -> float:
    """Share of artefacts passed that lose `margin` of the cases and gain none: counted, not simulated."""
    most = -1
    while tango_interval(most + 1, 0, n, ALPHA)[1] <= margin:
        most += 1
    return 0.0 if most < 0 else float(bdtr(most, n, margin))


def exact(margin: float, n: int) -> float:
    """The same of the bound that decides."""
    most, rows, none = -1, np.arange(n), np.zeros(n, bool)
    while bound_loss(rows < most + 1, none, rows, ALPHA).high <= margin:
        most += 1
    return 0.0 if most < 0 else float(bdtr(most, n, margin))


def delong(share: float, n: int) -> Callable[[Random], bool]:
    """A nearly perfect ranking of which a share of the positives falls to the end."""

    def draw(random: Random) -> bool:
        positive = random.random(n) < 0.5
        source = 9 * positive + random.normal(0, 1, n)
        artefact = np.where(positive & (random.random(n) < share), -99.0, source)
        components = placements(source, positive) - placements(artefact, positive)
        error = delong_variance(components, positive, np.arange(n)) ** 0.5
        return bool(components[positive].mean() + ndtri(1 - ALPHA) * error <= share)

    return draw


def student(share: float, loss: float, n: int) -> Callable[[Random], bool]:
    """Bootstrap-t where a share of the cases loses much."""

    def draw(random: Random) -> bool:
        losses = np.where(random.random(n) < share, loss, 0.0) + random.normal(0, 0.002, n)
        return bootstrap_t(losses, np.arange(n), ALPHA)[1] <= share * loss

    return draw


def bca(lost: float, n: int) -> Callable[[Random], bool]:
    """BCa on macro F1 where a class has a tenth of the cases and loses a share of its own."""
    rare, common = 2 * (1 - lost) / (2 - lost), 2 * 0.9 / (2 * 0.9 + 0.1 * lost)
    margin = 1 - (rare + common) / 2

    def loss(sums: np.ndarray) -> np.ndarray:
        before, after = np.split(sums, 2, axis=-1)
        return macro_f1(before) - macro_f1(after)

    def draw(random: Random) -> bool:
        truth = (random.random(n) < 0.1).astype(np.int64)
        after = np.where((truth == 1) & (random.random(n) < lost), 0, truth)
        rows = np.concatenate([macro_f1_sums(truth, given, 2) for given in (truth, after)], axis=1)
        return bound_from_sums(rows, loss, np.arange(n), ALPHA).high <= margin

    return draw


def share_of(draw: Callable[[Random], bool], trials: int) -> float:
    """Of `trials` gate sets, those that pass."""
    random = np.random.default_rng(0)
    return float(np.mean([draw(random) for _ in range(trials)]))


def main(trials: int = TRIALS) -> None:
    """Print one line for each."""
    for n in (268, 400, 800):
        told, decides = tango(0.01, n), exact(0.01, n)
        print(f"Tango, margin 0.01, no gains, n = {n}: {told:.1%} (the exact bound {decides:.1%})", flush=True)
    for share, n in ((0.02, 100), (0.05, 200), (0.05, 400)):
        print(
            f"DeLong, {share:.0%} of the positives fall, n = {n}: {share_of(delong(share, n), trials):.1%}", flush=True
        )
    for n in (50, 400):
        print(f"bootstrap-t, 2% lose 0.3, n = {n}: {share_of(student(0.02, 0.3, n), trials // 4):.1%}", flush=True)
    for lost, n in ((0.2, 100), (0.2, 400)):
        print(
            f"BCa, macro F1, a tenth loses {lost:.0%}, n = {n}: {share_of(bca(lost, n), trials // 2):.1%}", flush=True
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS)
