"""What a target's choice comes to in figures: quality, speed, size, each with how it was obtained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from edgeft.record import CandidateRow, TargetRow
from edgeft.report.validity import timing_faults
from edgeft.report.words import amount, bytes_text, count_text, how_text, interval_text, metric_name, times_text

LATENCY = "latency_p50_ms"
FIGURES = ("latency_p50_ms", "latency_p90_ms", "cold_load_ms", "first_inference_ms", "peak_memory_mb")


@dataclass(frozen=True)
class Figure:
    """One key figure: label, value, what it is compared with, how it was obtained, and its interval."""

    label: str
    value: str
    note: str = ""
    how: str = ""
    interval: str = ""


def metric_of(row: CandidateRow, metric: str) -> dict[str, Any] | None:
    """A candidate's measurement of a metric (Measurement.to_json()), None if missing or not finite."""
    for item in row.metrics:
        if item.get("metric") == metric and isinstance(item.get("value"), int | float) and isfinite(item["value"]):
            return item
    return None


def chosen_row(target: TargetRow) -> CandidateRow | None:
    """The candidate that was fixed before the gate set was opened."""
    return next((row for row in target.candidates if row.name == target.chosen), None)


def float_row(target: TargetRow, chosen: CandidateRow | None) -> CandidateRow | None:
    """The float export of the chosen candidate's exporter, what speed and size are compared with."""
    rows = [row for row in target.candidates if row.variant.get("name") == "float" or row.name == "float"]
    same = [row for row in rows if chosen and row.exporter == chosen.exporter]
    return next(iter(same or rows), None)


def speed_up(target: TargetRow) -> float | None:
    """p50 of the float export over that of the chosen candidate; None unless both were measured and are VALID."""
    chosen = chosen_row(target)
    base = float_row(target, chosen)
    pair = [metric_of(row, LATENCY) for row in (base, chosen) if row]
    if len(pair) < 2 or base is chosen or any(item is None or item.get("how") != "measured" for item in pair):
        return None
    if any(timing_faults(row) for row in (base, chosen) if row):
        return None
    before, after = (float(item["value"]) for item in pair if item)
    return before / after if after > 0 else None


def size_ratio(target: TargetRow) -> float | None:
    """Bytes of the float export over those of the chosen candidate."""
    chosen = chosen_row(target)
    base = float_row(target, chosen)
    if not chosen or not base or base is chosen or chosen.bytes <= 0 or base.bytes <= 0:
        return None
    return base.bytes / chosen.bytes


def key_figures(target: TargetRow) -> list[Figure]:
    """Cards: quality against the source, speed, size, memory, each with how it was obtained."""
    chosen = chosen_row(target)
    if chosen is None:
        return []
    quality, size = list(_quality_figures(target)), size_ratio(target)
    rest = time_figures(chosen, speed_up(target))
    if chosen.bytes > 0:
        note = f"{ratio_text(size, 'smaller', 'larger')} than float" if size else ""
        quality.append(Figure("Size", bytes_text(chosen.bytes), note, "counted"))
    return [*quality, *rest]


def time_figures(row: CandidateRow, speed: float | None) -> list[Figure]:
    """A candidate's latency, start-up and memory. speed: p50 of the float export over its own, None if not known."""
    figures = []
    for metric in FIGURES:
        item = metric_of(row, metric)
        if item is None:
            continue
        note = f"{ratio_text(speed, 'faster', 'slower')} than float" if metric == LATENCY and speed else ""
        interval = interval_text(metric, item.get("interval"))
        span = f"{float(item.get('confidence') or 0.95):.0%} interval {interval}" if interval else ""
        value = amount(metric, item["value"], str(item.get("unit", "")))
        invalid = "INVALID, " if metric.startswith("latency_") and timing_faults(row) else ""
        figures.append(Figure(metric_name(metric), value, note, invalid + how_text(item), span))
    return figures


def ratio_text(value: float | None, better: str, worse: str) -> str:
    """`2.6× faster`, `1.4× slower`; empty without a ratio."""
    if not value:
        return ""
    return f"{times_text(value)} {better}" if value >= 1 else f"{times_text(1 / value)} {worse}"


def _quality_figures(target: TargetRow) -> Iterator[Figure]:
    gates = target.gate_set
    if not gates:
        return
    for metric, value in sorted(gates.artefact.items()):
        before = gates.source.get(metric)
        note = f"source {amount(metric, before)}" if before is not None else ""
        if metric in gates.by_rule:
            note += f", without a network {amount(metric, gates.by_rule[metric])}"
        yield Figure(
            metric_name(metric), amount(metric, value), note, f"{target.how}, gate set, {count_text(gates.n, 'case')}"
        )
