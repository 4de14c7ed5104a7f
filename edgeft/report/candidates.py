"""Candidates as tables: those that ran, those that could not, and what their exporters noted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgeft.record import CandidateRow, TargetRow
from edgeft.report.ecdf import QUANTILES, Curve, percentile_text, slowest_ms
from edgeft.report.figures import metric_of
from edgeft.report.series import series_of
from edgeft.report.tables import Cell, Line, Table, status_cell, table
from edgeft.report.validity import NEVER_RAN, timing_faults
from edgeft.report.words import (
    DASH,
    amount,
    bytes_text,
    interval_text,
    metric_name,
    runtime_name,
    significant,
)

COLUMNS = ("accuracy", "macro_f1", "latency_p50_ms", "latency_p90_ms")
TIMES = frozenset({"latency_p99_ms", "cold_load_ms", "first_inference_ms", "peak_memory_mb"})
"""Shown with the latencies, where there is room for them."""
ORDER = ("chosen", "eligible", "rejected", "failed", "unsupported")
NO_FLOAT = "there is no float export: "
OPERATOR = re.compile(r"([A-Za-z_]\w*(?:(?:::|\.)\w+)*): (.+)", re.S)
"""How a build writes an operator's name before the reason."""


def candidates_table(target: TargetRow) -> Table:
    """Every candidate that ran, the chosen one first; each number with its interval and n."""
    rows = ordered([row for row in target.candidates if row.metrics or row.status not in NEVER_RAN])
    known = {str(item.get("metric")) for row in rows for item in row.metrics}
    columns = [name for name in COLUMNS if any(metric_of(row, name) for row in rows)]
    columns += sorted(known - set(COLUMNS) - TIMES - {"artifact_mb"})
    same = {name: _same_n(rows, name) for name in columns}
    lines = [Line(_cells(row, same), row.name == target.chosen) for row in rows]
    heads = ["Candidate", "Status", "Size", *(_head(name, same[name]) for name in columns), "Why"]
    return Table(heads, lines, frozenset(range(2, len(columns) + 3)))


def refused_table(target: TargetRow) -> Table:
    """Candidates that could not be made or run: the operator's name, if one is to blame, and the reason."""
    rows = [row for row in target.candidates if row.status in NEVER_RAN and not row.metrics]
    body: list[list[Cell | str]] = []
    for row in ordered(rows):
        operator, reason = operator_and_reason(row)
        body.append(
            [
                Cell(row.name, small=runtime_name(row.runtime), swatch=series_of(row.runtime), kind="nowrap"),
                status_cell(row.status),
                Cell(operator or DASH, kind="code"),
                Cell(reason, kind="why"),
            ]
        )
    return table(["Not run", "Status", "Operator", "Reason"], body, stack=True)


def operator_and_reason(row: CandidateRow) -> tuple[str, str]:
    """(operator or empty, reason) of a refusal; `TRANSPOSE_CONV: has no kernel` is how a build writes one."""
    told, why = "", row.why
    if why.startswith(NO_FLOAT):
        told, why = "its float export failed: ", why.removeprefix(NO_FLOAT)
    found = OPERATOR.fullmatch(why) if row.status == "unsupported" else None
    return (found[1], told + found[2]) if found else ("", told + why)


def notes_table(rows: Sequence[CandidateRow]) -> Table:
    """What exporters found worth saying."""
    body: list[list[Cell | str]] = [
        [Cell(row.name, swatch=series_of(row.runtime), kind="nowrap"), Cell(note, kind="why")]
        for row in rows
        for note in row.notes
    ]
    return table(["Candidate", "Note"], body, stack=True)


def latency_table(curves: Sequence[Curve], chosen: str | None) -> Table:
    """The curves' numbers: percentiles with intervals, MLPerf's bound, start-up and memory, VALID or INVALID."""
    bound = any(c.row.latency and c.row.latency.early_stopping_p90_ms is not None for c in curves)
    extra = [
        name
        for name in ("cold_load_ms", "first_inference_ms", "peak_memory_mb")
        if any(metric_of(c.row, name) for c in curves)
    ]
    same = {name: _same_n([c.row for c in curves], name) for name in extra}
    lines = []
    for curve in curves:
        row, faults = curve.row, timing_faults(curve.row)
        times = Cell("INVALID", tone="fail") if faults else Cell("VALID", tone="pass")
        name = Cell(
            f"{curve.number}. {row.name}" if len(curves) > 1 else row.name,
            small=_runs(row),
            swatch=series_of(row.runtime),
            kind="nowrap",
        )
        cells = [name, times]
        for label, share in QUANTILES:
            value, interval = percentile_text(row, label, share, curve)
            cells.append(Cell(value or DASH, small=interval_text(f"latency_{label}_ms", interval)))
        if bound:
            most = row.latency.early_stopping_p90_ms if row.latency else None
            cells.append(Cell(f"{significant(most)} ms" if most is not None else DASH))
        slowest = slowest_ms(row)
        cells.append(Cell(f"{significant(slowest)} ms" if slowest is not None else DASH))
        cells += [_metric_cell(row, metric, same[metric]) for metric in extra]
        lines.append(Line(cells, row.name == chosen))
    heads = ["Candidate", "Times", "p50", "p90", "p99", *(["p90 bound"] if bound else []), "Slowest"]
    heads += [_head(name, same[name]) for name in extra]
    return Table(heads, lines, frozenset(range(2, len(heads))))


def ordered(rows: Sequence[CandidateRow]) -> list[CandidateRow]:
    """The chosen one, then eligible, rejected and the rest; within each the fastest, else the smallest first."""

    def place(row: CandidateRow) -> tuple[int, float, int, str]:
        item = metric_of(row, "latency_p50_ms")
        return ORDER.index(row.status), float(item["value"]) if item else float("inf"), row.bytes, row.name

    return sorted(rows, key=place)


def _same_n(rows: Sequence[CandidateRow], name: str) -> int | None:
    """The number of samples that all measurements of a metric rest on, None where they differ."""
    found = {int(item.get("n") or 0) for row in rows if (item := metric_of(row, name))}
    return next(iter(found)) if len(found) == 1 else None


def _head(name: str, n: int | None) -> str:
    return f"{metric_name(name)}, n = {n:,}" if n is not None else metric_name(name)


def _cells(row: CandidateRow, columns: Mapping[str, int | None]) -> list[Cell]:
    faults = timing_faults(row)
    cells = [
        Cell(row.name, small=runtime_name(row.runtime), swatch=series_of(row.runtime), kind="nowrap"),
        status_cell(row.status),
        Cell(bytes_text(row.bytes) if row.bytes else DASH),
    ]
    for name, n in columns.items():
        cell = _metric_cell(row, name, n)
        invalid = faults and name.startswith("latency_")
        cells.append(Cell(cell.text, small=f"INVALID\n{cell.small}") if invalid else cell)
    return [*cells, Cell(row.why, kind="why")]


def _metric_cell(row: CandidateRow, name: str, same_n: int | None = None) -> Cell:
    item = metric_of(row, name)
    if item is None:
        return Cell(DASH)
    notes = [interval_text(name, item.get("interval"))]
    notes += [f"n = {int(item.get('n') or 0):,}"] if same_n is None else []
    notes += [str(item.get("how", ""))] if item.get("how") != "measured" else []
    return Cell(amount(name, item["value"], str(item.get("unit", ""))), small="\n".join(text for text in notes if text))


def _runs(row: CandidateRow) -> str:
    part = row.latency
    return f"{runtime_name(row.runtime)}, {part.runs:,} runs" if part else runtime_name(row.runtime)
