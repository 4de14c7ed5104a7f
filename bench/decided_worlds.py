"""Worlds in which a gate itself decides, from scores to verdict, not only its bound: every kind of gate in one world
where it is known exactly how bad the artefact is, and a user's own metric in several; see gate_world.py.

A source that is surely right and an artefact that is surely wrong on a share q of the cases, of both labels alike, lose
just q of nearly every metric. Values of a user's own metric may have any size: here also millimetres, negative ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bench.gate_world import ROUNDING, Draw, Floats, Random, World, in_units, unit_labels
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.gates import decide_data_gate
from edgeft.gate import Gate, OperatingPoint
from edgeft.task import Score

LABELS = ("clear", "ill")
SOURCE = "source"
THRESHOLD = 0.5
Cases = Callable[[Random, int], dict[str, Any]]

KINDS: Mapping[str, tuple[dict[str, Any], Callable[[float], float]]] = {
    "accuracy": ({}, lambda q: q),
    "sensitivity_ill": ({}, lambda q: q),
    "specificity_ill": ({"at_specificity": 0.9}, lambda q: q),
    "macro_f1": ({}, lambda q: q),
    "auroc_ill": ({}, lambda q: q),
    "average_precision_ill": ({}, lambda q: 1 - ((1 - q) ** 2 + q / 2)),
    "ece": ({}, lambda q: q),
    "brier": ({}, lambda q: q),
    "mean_dice": ({}, lambda q: q),
    "hd95_mm_ill": ({"at_worst": 1.0}, lambda q: q),
}
"""Metric -> what its gate says besides, and what of it a share q costs. Dice and distances are 1 or 0 here, and then
the other one. Of average precision with even classes, a point of recall 1 - q and precision 1 - q, then every case."""


def losses(share: float) -> Iterator[World]:
    """Each kind against the source, exactly at its margin."""
    for metric, (more, cost) in KINDS.items():
        gate = Gate(metric=metric, no_worse_than=SOURCE, margin=cost(share), **more)
        yield World(f"{metric}, against the source, decided", _wrong(share), decided(gate, wrong(share)))


def alone(share: float) -> Iterator[World]:
    """Each kind by itself, exactly at its limit; cases that changed, and cases that lose."""
    for metric, (more, cost) in KINDS.items():
        lower = metric in ("ece", "brier", "hd95_mm_ill")
        limit = {"at_most": cost(share)} if lower else {"at_least": 1 - cost(share)}
        yield World(f"{metric}, decided", _wrong(share), decided(Gate(metric=metric, **limit, **more), wrong(share)))
    for more in ({"metric": "flip_rate"}, {"metric": "mean_dice", "cases_losing": 0.5}):
        gate = Gate(at_most=share, **more)  # type: ignore[arg-type]
        yield World(f"{gate.describe().partition(' at most')[0]}, decided", _wrong(share), decided(gate, wrong(share)))


def wrong(share: float) -> Cases:
    """Two even labels; the artefact is surely wrong on this share of the cases."""

    def cases(random: Random, n: int) -> dict[str, Any]:
        truth = (random.random(n) < 0.5).astype(np.int64)
        answer = np.where(random.random(n) < share, 1 - truth, truth)
        return {"artefact": _score(truth, answer), "source": _score(truth, truth), "truth": truth}

    return cases


def own_metric(
    share: float, loss: float, *, worst: float = 1.0, base: float = 0.5, callback: bool = False, rows: int = 1
) -> World:
    """A user's own metric, values around `base` of which a share loses `loss`: per case, or as a function of cases."""
    gate = Gate(metric="score.py:f", no_worse_than=SOURCE, margin=share * loss, at_worst=worst)

    def cases(random: Random, n: int) -> dict[str, Any]:
        count = n // rows
        struck = np.repeat(random.random(count) < share, rows)
        before = base * random.uniform(0.2, 1.0, len(struck))
        after = before - np.where(struck, loss, 0.0) + 0.01 * worst * random.uniform(-1, 1, len(struck))
        sides = [_mean_of(values) if callback else values for values in (after, before)]
        blank = np.zeros(len(struck), np.int64)
        score = _score(blank, blank)
        return {"artefact": score, "source": score, "custom": CustomValues(*sides), "units": unit_labels(count, rows)}

    kind = "own metric (function)" if callback else "own metric (values)"
    data = f"{100 * share:g}% lose {loss:g} of at worst {worst:g}" + in_units(rows)
    return World(f"{kind}, decided", data, decided(gate, cases))


def decided(gate: Gate, cases: Cases) -> Draw:
    """The gate's own verdict. What cannot be decided passes neither way."""

    def draw(random: Random, n: int, kept: float) -> tuple[bool, bool]:
        found = cases(random, n)
        units = found.pop("units", np.arange(n))
        verdict = decide_data_gate(gate, "bench", units=units, **found)
        if verdict.interval is None or verdict.value is None or verdict.limit is None:
            return False, False
        upper = gate.at_least is None
        edge, sign = verdict.interval[1 if upper else 0], 1 if upper else -1
        passed = sign * (verdict.value + kept * (edge - verdict.value) - verdict.limit) <= 0
        naive = sign * (verdict.value - verdict.limit) <= ROUNDING
        return verdict.status == "PASS" if kept == 1 else passed, naive

    return draw


def _score(truth: Any, answer: Any) -> Score:
    """Of sure answers: a probability of 1, a Dice of 1 where it is right, a distance of 1 where it is not."""
    right, sure = truth == answer, np.eye(2)[answer]
    confusion = np.zeros((2, 2), np.int64)
    np.add.at(confusion, (truth, answer), 1)
    values = {"brier": 1.0 - right, "mean_dice": right * 1.0, "hd95_mm_ill": 1.0 - right}
    points = {OperatingPoint("ill", "specificity", 0.9): THRESHOLD}
    return Score(
        {"accuracy": float(right.mean())}, right, answer, confusion, values, LABELS, sure, thresholds=points
    )  # fmt: skip


def _mean_of(values: Floats) -> Callable[[Any], float]:
    return lambda rows: float(values[rows].mean())


def _wrong(share: float) -> str:
    return f"{share:.0%} surely wrong"
