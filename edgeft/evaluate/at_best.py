"""What a gate needs at the very least, before anything runs: no case lost, none changed, or every case right."""

from __future__ import annotations

from edgeft.errors import RecipeError
from edgeft.evaluate.betting import units_at_best, units_without_loss
from edgeft.evaluate.statistics import NEEDED_CAP, count_unseen
from edgeft.evaluate.unconditional import upper_difference
from edgeft.gate import Gate
from edgeft.metric_names import (
    CASE_METRICS,
    DATA_METRICS,
    FLIP_RATE,
    RANKING_FAMILIES,
    RATE_FAMILIES,
    is_own,
    lower_is_better,
)

WIDER = "state how much worse is acceptable, for instance margin: 0.01"


def needed_at_best(gate: Gate, units_n: int, *, alone: bool = True) -> int | None:
    """None if a gate set of `units_n` units may be enough; else the smallest number that may be.

    At best means: no case lost and none gained, or every case right. Of a gate with `by` the units are those of one
    subgroup, of one on the cases of a label those of that label. alone: every unit has one row. RecipeError for a gate
    that no number of cases satisfies. Gates on resources and on a user's own absolute values need no number that is
    known beforehand.
    """
    if not gate.needs_gate_set:
        return None
    alpha = 1 - gate.confidence
    if gate.at_most is not None and (gate.cases_losing is not None or gate.metric in (FLIP_RATE, "ece")):
        return _rate_needed(gate, gate.at_most, alpha, units_n)
    if gate.metric.startswith(CASE_METRICS):
        return _units_needed(gate, units_n, alpha)
    if gate.at_most is not None:
        return None
    rate = gate.metric == "accuracy" or gate.metric.startswith(RATE_FAMILIES)
    if is_own(gate.metric):
        room = (gate.margin or 0.0) / (gate.at_worst or 1.0)
        return _rate_needed(gate, room, alpha, units_n) if gate.no_worse_than else None
    if gate.no_worse_than:
        needed = _rate_needed(gate, gate.margin or 0.0, alpha / 2 if rate and not alone else alpha, units_n)
        return needed if not rate or not alone else _pairs_needed(gate, units_n, alpha)
    if rate or gate.metric in DATA_METRICS or gate.metric.startswith(RANKING_FAMILIES):
        return _rate_needed(gate, 1 - (gate.at_least or 0.0), alpha, units_n)
    return None


def _rate_needed(gate: Gate, room: float, alpha: float, units_n: int) -> int | None:
    """Units without a single event that leave at most a share of `room` possible."""
    if room <= 0:
        never, hint = _never(gate)
        raise RecipeError(never, where=f"gate '{gate.describe()}'", hint=hint)
    needed = 1 if room >= 1 else count_unseen(room, alpha)
    return needed if needed > units_n else None


def _pairs_needed(gate: Gate, units_n: int, alpha: float) -> int | None:
    """Pairs without a flip that the exact bound of a loss passes: hardly more than of a rate without an event."""
    margin = gate.margin or 0.0
    low = 0 if margin >= 1 else count_unseen(margin, alpha) - 1
    high = low + max(2, low // 50)
    while high < NEEDED_CAP and upper_difference(0, 0, high, alpha) > margin:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_difference(0, 0, middle, alpha) <= margin else (middle, high)
    return high if high > units_n else None


def _units_needed(gate: Gate, units_n: int, alpha: float) -> int | None:
    """The same for a mean of values per case, by the bound that decides it."""
    if gate.at_most is not None and not lower_is_better(gate.metric):
        return None
    if gate.no_worse_than:
        room = gate.margin or 0.0
    else:
        room = gate.at_most if gate.at_most is not None else 1 - (gate.at_least or 0.0)
    room /= gate.at_worst or 1.0
    if room <= 0:
        hint = WIDER if gate.no_worse_than else "above 0" if gate.at_most is not None else "below 1"
        raise RecipeError("no number of cases shows this", where=f"gate '{gate.describe()}'", hint=hint)
    needed = units_without_loss(room, alpha) if gate.no_worse_than else units_at_best(room, alpha)
    if needed is None:
        raise RecipeError("no number of cases shows this", where=f"gate '{gate.describe()}'", hint="a wider margin")
    return needed if needed > units_n else None


def _never(gate: Gate) -> tuple[str, str]:
    if gate.no_worse_than:
        return "a margin of 0 is never shown: even without a single lost case some loss stays possible", WIDER
    if gate.at_most is not None:
        what = f"no number of cases shows a share of at most {gate.at_most:g}: a single unseen one stays possible"
        return what, "a limit above 0, for instance at_most: 0.02"
    never = f"no number of cases shows {gate.metric} of at least {gate.at_least:g}"
    return never, "a limit below 1, for instance at_least: 0.95"
