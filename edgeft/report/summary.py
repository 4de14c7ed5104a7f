"""What a record says in sentences and figures; the terminal, the report and the model card draw from here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from edgeft.record import CandidateRow, RunRecord, TargetRow
from edgeft.report.words import (
    OUTCOMES,
    amount,
    bytes_text,
    count_text,
    how_text,
    interval_text,
    metric_name,
    runtime_name,
    seconds_text,
    times_text,
)

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
    """p50 of the float export over that of the chosen candidate; None unless both were measured."""
    chosen = chosen_row(target)
    base = float_row(target, chosen)
    pair = [metric_of(row, LATENCY) for row in (base, chosen) if row]
    if len(pair) < 2 or base is chosen or any(item is None or item.get("how") != "measured" for item in pair):
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


def target_sentence(target: TargetRow) -> str:
    """`int8-dynamic in ONNX Runtime on local-cpu: 2.6× faster and 3.9× smaller than the float export, accuracy ...`."""
    chosen = chosen_row(target)
    if chosen is None:
        return f"no candidate was chosen for {target.device}" + (f": {target.why}" if target.why else "")
    parts = []
    speed, size = speed_up(target), size_ratio(target)
    ratios = [_ratio(speed, "faster", "slower")] if speed else []
    ratios += [_ratio(size, "smaller", "larger")] if size else []
    if ratios:
        parts.append(f"{' and '.join(ratios)} than the float export")
    if target.gate_set:
        for metric in ("accuracy", "macro_f1"):
            if metric in target.gate_set.artefact and metric in target.gate_set.source:
                after, before = target.gate_set.artefact[metric], target.gate_set.source[metric]
                parts.append(f"{metric_name(metric).lower()} {amount(metric, after)} vs {amount(metric, before)}")
                break
    emulated = " (emulated)" if target.how == "emulated" and "emulated" not in target.device else ""
    place = f"{chosen.name} in {runtime_name(chosen.runtime)} on {target.device}{emulated}"
    return f"{place}: {', '.join(parts)}" if parts else place


def key_figures(target: TargetRow) -> list[Figure]:
    """Cards: quality against the source, speed, size, memory, each with how it was obtained."""
    chosen = chosen_row(target)
    if chosen is None:
        return []
    figures = list(_quality_figures(target))
    speed, size = speed_up(target), size_ratio(target)
    for metric in FIGURES:
        item = metric_of(chosen, metric)
        if item is None:
            continue
        note = f"{_ratio(speed, 'faster', 'slower')} than float" if metric == LATENCY and speed else ""
        interval = interval_text(metric, item.get("interval"))
        span = f"{float(item.get('confidence') or 0.95):.0%} interval {interval}" if interval else ""
        value = amount(metric, item["value"], str(item.get("unit", "")))
        figures.append(Figure(metric_name(metric), value, note, how_text(item), span))
    if chosen.bytes > 0:
        note = f"{_ratio(size, 'smaller', 'larger')} than float" if size else ""
        figures.insert(min(2, len(figures)), Figure("Size", bytes_text(chosen.bytes), note, "counted"))
    return figures


def reasons(record: RunRecord) -> list[str]:
    """Why the build may not ship, most decisive first: the error, then what did not pass; empty if it may."""
    if record.status == "passed":
        return []
    rows = [record.error.what] if record.error else []
    for status in ("FAIL", "INCONCLUSIVE"):
        for target in record.targets:
            for verdict in target.verdicts:
                if verdict.get("status") == status and verdict.get("severity") != "warn":
                    rows.append(f"{target.device}: {verdict.get('why', '')}")
    if not record.error:
        rows += [f"{row.device}: {row.why}" for row in record.targets if row.candidates and not row.chosen and row.why]
    return rows


def summary_lines(record: RunRecord, *, report: str = "") -> list[str]:
    """The end of a build as plain text: outcome, each target's choice and verdicts, where the report lies."""
    word, rest = OUTCOMES[record.status]
    lines = [f"{word}: {record.name}: {rest} ({seconds_text(record.wall_seconds)})"]
    if record.error:
        place = f"{record.error.where}: " if record.error.where else ""
        lines.append(f"  error: {place}{record.error.what}")
        lines += [f"    {line}" for line in record.error.excerpt.splitlines()]
        lines += [f"  hint: {record.error.hint}"] if record.error.hint else []
    for target in record.targets:
        if target.chosen or record.status == "failed":  # an error or a stop comes before the choice, and says so itself
            lines.append(f"  {target_sentence(target)}")
        for figure in key_figures(target):
            detail = ", ".join(text for text in (figure.note, figure.how, figure.interval) if text)
            lines.append(f"    {figure.label.lower()}: {figure.value}" + (f" ({detail})" if detail else ""))
        for verdict in target.verdicts:
            mark = " (warn)" if verdict.get("severity") == "warn" else ""
            lines.append(f"    {verdict.get('status', '?')}{mark}  {verdict.get('why', '')}")
        lines += [f"    files: {target.folder}"] if target.folder else []
    lines += [f"  warning: {text}" for text in record.warnings]
    lines += [f"report: {report}"] if report else []
    return [clean_line(line) for line in lines]


def clean_line(line: str) -> str:
    """Without control characters: a label or an error text must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in line)


def _quality_figures(target: TargetRow) -> Iterator[Figure]:
    gates = target.gate_set
    if not gates:
        return
    for metric, value in sorted(gates.artefact.items()):
        before = gates.source.get(metric)
        note = f"source {amount(metric, before)}" if before is not None else ""
        yield Figure(
            metric_name(metric), amount(metric, value), note, f"{target.how}, gate set, {count_text(gates.n, 'case')}"
        )


def _ratio(value: float | None, better: str, worse: str) -> str:
    if not value:
        return ""
    return f"{times_text(value)} {better}" if value >= 1 else f"{times_text(1 / value)} {worse}"
