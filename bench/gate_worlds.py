"""Worlds of gates on rates, means per case and F1; see gate_world.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.gate_world import ALPHA, Floats, Random, World, at_least, at_most, in_units, unit_labels
from edgeft.evaluate.betting import bound_mean
from edgeft.evaluate.bootstrap import macro_f1
from edgeft.evaluate.f1 import bound_macro_f1, bound_macro_f1_loss
from edgeft.evaluate.means import bound_tail
from edgeft.evaluate.statistics import Bound, Undecidable, bound_rate
from edgeft.evaluate.unconditional import bound_loss

NOISE = 0.01
"""Most cases' Dice changes by up to this, up or down."""


def flips(lost: float, gained: float, rows: int = 1, limit: float | None = None) -> World:
    """Cases lost and gained at these rates, whole units of `rows` at once."""

    def bound(random: Random, n: int) -> Bound:
        count = n // rows
        fate = np.repeat(random.random(count), rows)
        return bound_loss(fate < lost, (fate >= lost) & (fate < lost + gained), unit_labels(count, rows), ALPHA)

    data = f"{lost:.1%} lost, {gained:.1%} gained" + in_units(rows)
    return World("accuracy, against the source", data, at_most(lost - gained if limit is None else limit, bound))


def rate(kind: str, share: float, *, high: bool, rows: int = 1, limit: float | None = None) -> World:
    """A share of cases, gated from below (accuracy) or from above (flips, catastrophes)."""

    def bound(random: Random, n: int) -> Bound:
        count = n // rows
        return bound_rate(np.repeat(random.random(count) < share, rows), unit_labels(count, rows), ALPHA)

    return World(
        kind, f"{share:.1%}" + in_units(rows), (at_most if high else at_least)(share if limit is None else limit, bound)
    )


def sensitivity(lost: float, prevalence: float, limit: float | None = None) -> World:
    """Positives lost at a rate; how many positives there are is chance as well."""

    def bound(random: Random, n: int) -> Bound:
        positives = int(random.binomial(n, prevalence))
        if positives == 0:
            raise Undecidable("no positives")
        fate = random.random(positives) < lost
        return bound_loss(fate, np.zeros(positives, bool), np.arange(positives), ALPHA)

    data = f"{prevalence:.0%} positives, {100 * lost:g}% of them lost"
    return World("sensitivity, against the source", data, at_most(lost if limit is None else limit, bound))


def tails(share: float, loss: float, rows: int = 1, limit: float | None = None) -> World:
    """Dice: most cases change a little around 0, a share of the cases (or units) loses `loss`."""

    def bound(random: Random, n: int) -> Bound:
        losses, units = _tailed(random, n, share, loss, NOISE, rows)
        return bound_mean(losses, units, ALPHA, low=-1.0, high=1.0)

    return World(
        "Dice, against the source",
        _tail(share, loss) + in_units(rows),
        at_most(share * loss if limit is None else limit, bound),
    )


def catastrophes(share: float, loss: float) -> World:
    """The tail gate beside a mean: cases that lose more than 0.1."""

    def bound(random: Random, n: int) -> Bound:
        losses, units = _tailed(random, n, share, loss, NOISE, 1)
        return bound_tail(losses, 0.1, units, ALPHA)

    return World("catastrophic cases", _tail(share, loss), at_most(share, bound))


def f1(
    shares: tuple[float, ...], lost: tuple[float, ...], wrong: float = 0.1, rows: int = 1, limit: float | None = None
) -> World:
    """Macro F1: classes with these shares lose these rates of their right answers, to the next class."""
    classes = len(shares)
    before = np.diag([s * (1 - wrong) for s in shares]) + np.diag([s * wrong for s in shares[:-1]], 1)
    before[-1, 0] += shares[-1] * wrong
    moved = np.diag(before) * np.array(lost)
    after = before - np.diag(moved)
    for label in range(classes):
        after[label, (label + 1) % classes] += moved[label]
    allowed = _f1_of(before) - _f1_of(after) if limit is None else limit

    def bound(random: Random, n: int) -> Bound:
        count = n // rows
        truth = np.repeat(random.choice(classes, size=count, p=shares), rows)
        fate = np.repeat(random.random(count), rows)
        worse = np.array(lost)[truth] * (1 - wrong)
        source = np.where(fate < wrong, (truth + 1) % classes, truth)
        artefact = np.where(fate < wrong + worse, (truth + 1) % classes, truth)
        return bound_macro_f1_loss(truth, source, artefact, classes, unit_labels(count, rows), ALPHA)

    data = (
        f"classes {', '.join(f'{s:.0%}' for s in shares)}; lose {', '.join(f'{100 * x:g}%' for x in lost)}"
        + in_units(rows)
    )
    return World("macro F1, against the source", data, at_most(allowed, bound))


def f1_absolute(shares: tuple[float, ...], wrong: float) -> World:
    """Macro F1 of the artefact alone."""
    classes = len(shares)
    table = np.diag([s * (1 - wrong) for s in shares]) + np.roll(np.diag([s * wrong for s in shares]), 1, axis=1)

    def bound(random: Random, n: int) -> Bound:
        truth = random.choice(classes, size=n, p=shares)
        answer = np.where(random.random(n) < wrong, (truth + 1) % classes, truth)
        return bound_macro_f1(truth, answer, classes, np.arange(n), ALPHA)

    data = f"classes {', '.join(f'{s:.0%}' for s in shares)}, {wrong:.0%} wrong"
    return World("macro F1", data, at_least(float(_f1_of(table)), bound))


def _tailed(
    random: Random, n: int, share: float, loss: float, noise: float, rows: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Losses within [-1, 1] and their units; a unit struck is struck in all its rows."""
    count = n // rows
    struck = np.repeat(random.random(count) < share, rows)
    losses = np.where(struck, loss, 0.0) + noise * random.uniform(-1, 1, count * rows)
    return losses, unit_labels(count, rows)


def _tail(share: float, loss: float) -> str:
    return f"{100 * share:g}% lose {loss:g}"


def _f1_of(table: Floats) -> float:
    """Macro F1 of a joint distribution of truth (rows) and answers (columns)."""
    return float(macro_f1(np.concatenate([np.diag(table), table.sum(axis=0), table.sum(axis=1)])))
