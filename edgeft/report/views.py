"""One target of a record as what its section of the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.record import CandidateRow, GateSetRow, TargetRow
from edgeft.report.confusion import shade_matrix, top_confusions
from edgeft.report.plots import beyond_axis, plot_latency, plot_verdict
from edgeft.report.scatter import cost_metric, plot_tradeoff
from edgeft.report.summary import key_figures, metric_of, target_sentence
from edgeft.report.svg import SERIES
from edgeft.report.tables import Cell, Line, Table, parity_table, status_cell, table
from edgeft.report.words import (
    DASH,
    amount,
    bytes_text,
    count_text,
    how_text,
    interval_text,
    metric_name,
    runtime_name,
)

COLUMNS = (
    "accuracy",
    "macro_f1",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "cold_load_ms",
    "peak_memory_mb",
)
FLIPS = (
    ("both_right", "right in both"),
    ("lost", "lost: right in the source only"),
    ("gained", "gained: right in the artefact only"),
    ("both_wrong", "wrong in both"),
)


def view_target(target: TargetRow, index: int, labels: Sequence[str]) -> dict[str, Any]:
    """Everything target.html.j2 lays out; pictures are marked as safe markup."""
    from markupsafe import Markup

    emulated = ", emulated" if target.how == "emulated" and "emulated" not in target.device else ""
    tradeoff = plot_tradeoff(target)
    return {
        "id": f"target-{index}",
        "title": f"{target.device}{emulated}",
        "sentence": target_sentence(target),
        "chosen": target.chosen,
        "why": target.why,
        "folder": target.folder,
        "cards": key_figures(target),
        "verdicts": verdicts_table(target.verdicts),
        "tradeoff": Markup(tradeoff) if tradeoff else "",  # noqa: S704 - built by svg.py, which escapes
        "tradeoff_note": _tradeoff_note(target),
        "candidates": candidates_table(target),
        "latency": _latency_panels(target),
        "parity": parity_table({row.name: row.parity for row in target.candidates if row.parity}),
        "gate_set": view_gate_set(target.gate_set, labels) if target.gate_set else None,
    }


def verdicts_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Each gate's answer with the interval against the limit and the reason in words."""
    from markupsafe import Markup

    rows: list[list[Cell | str]] = []
    for verdict in verdicts:
        strip = plot_verdict(verdict)
        warn = "warns only" if verdict.get("severity") == "warn" else ""
        status = status_cell(str(verdict.get("status", "?")))
        rows.append(
            [
                Cell(status.text, tone=status.tone, small=warn),
                Cell(str(verdict.get("gate", ""))),
                Cell(picture=Markup(strip) if strip else DASH),  # noqa: S704 - built by svg.py, which escapes
                Cell(str(verdict.get("why", "")), small=str(verdict.get("method", "")), kind="why"),
            ]
        )
    return table(["Verdict", "Gate", "Interval and limit", "Why"], rows, stack=True)


def candidates_table(target: TargetRow) -> Table:
    """All candidates with every metric at least one of them has; each number with its interval and n."""
    columns = [name for name in COLUMNS if any(metric_of(row, name) for row in target.candidates)]
    known = {str(item.get("metric")) for row in target.candidates for item in row.metrics}
    columns += sorted(known - set(COLUMNS) - {"artifact_mb", "first_inference_ms"})
    rows = [
        Line(_candidate_cells(row, index, columns), row.name == target.chosen)
        for index, row in enumerate(target.candidates)
    ]
    heads = ["Candidate", "Status", "Size", *(metric_name(name) for name in columns), "Why"]
    return Table(heads, rows, frozenset(range(2, len(columns) + 3)))


def view_gate_set(gates: GateSetRow, labels: Sequence[str]) -> dict[str, Any]:
    """Metrics, flips and confusions of the one opening."""
    units = f" in {count_text(gates.units, 'unit')}" if gates.units != gates.n else ""
    names = sorted({*gates.artefact, *gates.source})
    rows = [[metric_name(m), amount(m, gates.source.get(m)), amount(m, gates.artefact.get(m))] for m in names]
    total = sum(gates.flips.values()) or 1
    flips = [[text, f"{gates.flips.get(key, 0):,}", f"{gates.flips.get(key, 0) / total:.2%}"] for key, text in FLIPS]
    confusions = top_confusions(gates.confusion, labels)
    matrix = shade_matrix(gates.confusion, labels)
    return {
        "text": f"{count_text(gates.n, 'case')}{units}, opened after the candidate was fixed; "
        "the source was scored in the same opening.",
        "metrics": table(["Metric", "Source", "Artefact"], rows, (1, 2)),
        "flips": table(["Case by case", "Cases", "Share"], flips, (1, 2)),
        "matrix": matrix,
        "confusions": table([], []) if matrix else confusions,
        "confusions_text": f"The most frequent of the confusions among {len(gates.confusion)} classes:",
    }


def _candidate_cells(row: CandidateRow, index: int, columns: Sequence[str]) -> list[Cell]:
    cells = [
        Cell(row.name, small=runtime_name(row.runtime), swatch=index % SERIES, kind="nowrap"),
        status_cell(row.status),
        Cell(bytes_text(row.bytes) if row.bytes else DASH),
    ]
    for name in columns:
        item = metric_of(row, name)
        if item is None:
            cells.append(Cell(DASH))
            continue
        interval = interval_text(name, item.get("interval"))
        small = f"{interval}\nn = {int(item.get('n') or 0):,}" if interval else how_text(item)
        mark = "" if item.get("how") == "measured" or not interval else f", {item.get('how')}"
        cells.append(Cell(amount(name, item["value"], str(item.get("unit", ""))), small=small + mark))
    return [*cells, Cell(row.why, kind="why", small=_placement(row))]


def _placement(row: CandidateRow) -> str:
    return ", ".join(f"{name}: {count_text(count, 'node')}" for name, count in sorted(row.placement.items()))


def _latency_panels(target: TargetRow) -> list[tuple[Any, str, str]]:
    from markupsafe import Markup

    panels = []
    for index, row in enumerate(target.candidates):
        plot = plot_latency(row, index)
        if not plot or row.latency is None:
            continue
        part = row.latency
        texts = [
            f"{count_text(part.runs, 'run')} after {part.warmup_runs:,} to warm up, "
            f"{count_text(part.threads, 'thread')}, shape {part.shape}, {part.protocol} protocol.",
            beyond_axis(row),
            "Throttling was detected: this measurement is not to be trusted." if part.throttled else "",
        ]
        panels.append((Markup(plot), row.name, " ".join(text for text in texts if text)))  # noqa: S704 - by svg.py
    return panels


def _tradeoff_note(target: TargetRow) -> str:
    emulated = any(item.get("how") == "emulated" for row in target.candidates for item in row.metrics)
    time = (
        " Latency is not shown: under emulation it means nothing."
        if emulated and cost_metric(target) == "artifact_mb"
        else ""
    )
    return (
        "Bars are intervals. Filled points were eligible, hollow ones rejected, the ringed one was chosen. "
        f"Dashed lines are gate limits; the gates themselves are decided on the gate set.{time}"
    )
