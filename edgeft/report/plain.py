"""The verdicts in plain sentences, for whoever reads nothing else of a report: what holds, what fails, what is open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from edgeft.metric_names import LATENCY_METRICS, is_share, unit_of
from edgeft.record import RunRecord, TargetRow
from edgeft.report.figures import chosen_row
from edgeft.report.tables import Cell, status_cell
from edgeft.report.words import amount, count_text, metric_name, runtime_name

LOSS, LOSING = "loss of ", "share of cases losing more than "
NOTE = (
    "Each bound holds with the gate's confidence, 95% unless the recipe says otherwise. Undecided means that the cases "
    "allow both answers: nothing ships on it."
)
CONDITION = re.compile(
    r" (?:no worse than (?P<baseline>.+?) by|(?P<floor>at least)|at most) [^ ,]+"
    r"(?: in every (?P<by>.+?))?(?:, counted by (?P<unit>.+))?$"
)
"""How a gate ends in its own words (Gate.describe)."""
RUNS = LATENCY_METRICS | {"peak_memory_mb"}
"""What is measured by running an artefact again and again: n of them counts runs."""
Row = Mapping[str, Any]


def plain_targets(record: RunRecord) -> list[tuple[str, list[tuple[Cell, str]]]]:
    """(what was chosen for a target, the status and a sentence of each gate), for targets that have verdicts."""
    return [
        (_lead(target), [(status_cell(str(row.get("status", "?"))), plain_verdict(row)) for row in target.verdicts])
        for target in record.targets
        if target.verdicts
    ]


def plain_verdict(verdict: Row) -> str:
    """One gate's answer; of a gate by subgroups those that do not pass are named one by one."""
    parts = list(verdict.get("parts") or ())
    warn = " This gate only warns." if verdict.get("severity") == "warn" else ""
    if not parts:
        return f"{_sentence(verdict, verdict)}{warn}"
    whole = next((part for part in parts if not part.get("subgroup")), verdict)
    groups = [part for part in parts if part.get("subgroup")]
    by = _said(verdict, "by") or "subgroup"
    good = [part for part in groups if part.get("status") == "PASS"]
    if len(good) == len(groups) and whole.get("status") == "PASS":
        return f"{_sentence(verdict, whole)} The same holds for each {by} by itself: {_names(groups)}.{warn}"
    told = [] if whole.get("status") == "PASS" else [_sentence(verdict, whole, " in the whole")]
    bad = [part for status in ("FAIL", "INCONCLUSIVE") for part in groups if part.get("status") == status]
    told += [_sentence(verdict, part, f" for {by} {part['subgroup']}") for part in bad]
    holds = [f"for {by} {_names(good)}"] if good else []
    holds += ["in the whole"] if whole.get("status") == "PASS" else []
    return " ".join([*told, *([f"It holds {' and '.join(holds)}."] if holds else [])]) + warn


def _lead(target: TargetRow) -> str:
    chosen = chosen_row(target)
    if chosen is None:
        return f"For {target.device} nothing was chosen."
    statuses = {str(row.get("status")) for row in target.verdicts if row.get("severity") != "warn"}
    warned = any(row.get("status") != "PASS" for row in target.verdicts if row.get("severity") == "warn")
    ending = (
        "fails a gate and may not ship" if "FAIL" in statuses
        else "was not run there and may not ship" if target.not_run
        else "may not ship: the cases are too few to decide" if "INCONCLUSIVE" in statuses
        else "passed every gate that can stop it and may ship" if warned
        else "passed every gate and may ship"
    )  # fmt: skip
    return f"{chosen.name} in {runtime_name(chosen.runtime)}, chosen for {target.device}, {ending}."


def _sentence(verdict: Row, part: Row, where: str = "") -> str:
    clause = _clause(verdict, part)
    level = clause.startswith(("at least", "at most")) and _is_level(part)
    return f"{_subject(part)}{where}{' is ' if level else ': '}{clause}."


def _is_level(part: Row) -> bool:
    return not str(part.get("quantity", "")).startswith(LOSS)


def _subject(part: Row) -> str:
    quantity = str(part.get("quantity") or part.get("metric", ""))
    if quantity.startswith(LOSING):
        metric = str(part.get("metric", ""))
        unit = f" {unit_of(metric)}" if unit_of(metric) else ""
        return f"{quantity[0].upper()}{quantity[1:]}{unit} of {metric_name(metric)}"
    return metric_name(quantity.removeprefix(LOSS))


def _clause(verdict: Row, part: Row) -> str:
    """`no more than 0.04 worse than the source (0.1 allowed), on 48 cases`."""
    status, interval, limit = part.get("status"), part.get("interval"), part.get("limit")
    if interval is None or limit is None:
        return f"undecided: {part.get('why', '')}" if status == "INCONCLUSIVE" else str(part.get("why", ""))
    low, high = (float(end) for end in interval)
    told = _loss if str(part.get("quantity", "")).startswith(LOSS) else _level
    n, units = part.get("n"), part.get("units")
    cases = f", on {count_text(n, _one(part))}" if isinstance(n, int) and n > 1 else ""
    cases += f" in {_units(verdict, units)}" if cases and units and units < n else ""
    if status == "INCONCLUSIVE":
        return f"undecided{cases}: it may be {told(verdict, part, low, high, limit)}; {_needed(verdict, part)}"
    return f"{told(verdict, part, low, high, limit)}{cases}"


def _needed(verdict: Row, part: Row) -> str:
    needed, units, n = part.get("needed_n"), part.get("units"), part.get("n")
    if not needed:
        return f"more {_one(part)}s like these would not make it pass"
    if units and n and units < n:
        return f"about {_units(verdict, ceil(needed * units / n))} like these would decide it"
    return f"about {needed:,} {_one(part)}s would decide it"


def _units(verdict: Row, count: int) -> str:
    """`12 units`, `12 units (patient)` where the gate names the column."""
    unit = _said(verdict, "unit")
    return count_text(count, "unit") + (f" ({unit})" if unit else "")


def _one(part: Row) -> str:
    """What n counts."""
    return "run" if part.get("metric") in RUNS else "case"


def _loss(verdict: Row, part: Row, low: float, high: float, limit: float) -> str:
    status, than = part.get("status"), _baseline(verdict)
    allowed = f"({_size(part, limit)} allowed)"
    if status == "FAIL":
        return f"at least {_size(part, low)} worse than {than} {allowed}"
    if high <= 0:
        return f"no worse than {than} {allowed}"
    words = "no more than" if status == "PASS" else "up to"
    return f"{words} {_size(part, high)} worse than {than} {allowed}"


def _level(verdict: Row, part: Row, low: float, high: float, limit: float) -> str:
    floor = bool(_said(verdict, "floor"))
    asked = f"({_value(part, limit)} {'asked' if floor else 'allowed'})"
    below = f"as low as {_value(part, low)}" if floor else f"as high as {_value(part, high)}"
    if part.get("status") == "INCONCLUSIVE":
        return f"{below} {asked}"
    least = floor == (part.get("status") == "PASS")
    return f"{'at least' if least else 'at most'} {_value(part, low if least else high)} {asked}"


def _baseline(verdict: Row) -> str:
    return f"the {_said(verdict, 'baseline') or 'source'}"


def _said(verdict: Row, name: str) -> str:
    """A group of CONDITION; empty where the gate says nothing of it."""
    found = CONDITION.search(str(verdict.get("gate", "")))
    return (found[name] if found else None) or ""


def _size(part: Row, value: float) -> str:
    """A difference: points where the metric is read as a percentage."""
    metric = str(part.get("metric", ""))
    return f"{abs(value) * 100:.1f} points" if is_share(metric) else amount(metric, abs(value))


def _value(part: Row, value: float) -> str:
    if str(part.get("quantity", "")).startswith(LOSING):
        return f"{value:.1%}"
    return amount(str(part.get("metric", "")), value)


def _names(parts: Sequence[Row]) -> str:
    names = [str(part["subgroup"]) for part in parts]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
