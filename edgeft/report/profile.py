"""The page of `edgeft profile`: one model on one device, with the same evidence as a build's target page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft.record import CandidateRow, TargetRow
from edgeft.report.comparison import comparison_blocks, comparison_sentence
from edgeft.report.evidence import (
    conditions_blocks,
    latency_blocks,
    operators_blocks,
    placement_blocks,
    roofline_blocks,
)
from edgeft.report.figures import Figure, metric_of, time_figures
from edgeft.report.html import stylesheet, template_environment
from edgeft.report.sections import Block, Section, grid, keep, text
from edgeft.report.tables import Cell, Table, device_table, facts_table, table
from edgeft.report.words import amount, bytes_text, count_text, interval_text, runtime_name
from edgeft.targets.profile.record import ModelRow, ProfileRecord, TensorRow

WORDS = {"VALID": ("✓ VALID", "the times may be believed"), "INVALID": ("✕ INVALID", "the times decide nothing")}


def render_profile(record: ProfileRecord) -> str:
    """One-file HTML. Pure: the same record gives the same text; its content is escaped, whatever it says."""
    page = template_environment().get_template("profile.html.j2").render(page=_page(record))
    return page.encode("utf-8", "replace").decode("utf-8")


def _page(record: ProfileRecord) -> dict[str, Any]:
    row = _candidate(record)
    word, rest = WORDS[record.verdict]
    threads = count_text(record.threads, "thread")
    lead = f"{runtime_name(record.model.runtime)} on {record.device}, {threads}, batch {record.batch}"
    meta = [
        f"started {record.started}",
        f"{record.protocol} protocol",
        f"{record.how} on {record.device}",
        record.inputs,
    ]
    return {
        "css": stylesheet(),
        "title": record.model.file,
        "lead": lead,
        "meta": " · ".join(part for part in meta if part),
        "tone": "pass" if record.verdict == "VALID" else "fail",
        "word": word,
        "rest": rest,
        "reasons": record.reasons,
        "sentences": [sentence for sentence in (_sentence(row), comparison_sentence(record.comparison)) if sentence],
        "sections": keep(_sections(record, row)),
        "version": record.edgeft,
    }


def _candidate(record: ProfileRecord) -> CandidateRow:
    """The profile as a row that the blocks of a target page show; the record's verdict is that of its times."""
    judged = {"valid": record.verdict == "VALID", "throttled": False, "reasons": record.reasons}
    return CandidateRow(
        name=record.model.file,
        exporter="",
        runtime=record.model.runtime,
        variant={},
        status="eligible",
        why="",
        digest=record.model.sha256,
        bytes=record.model.bytes,
        metrics=record.metrics,
        latency=record.latency.model_copy(update=judged),
        placement=record.placement,
        fallback=record.fallback,
        operators=record.operators,
        roofline=record.roofline,
    )


def _sections(record: ProfileRecord, row: CandidateRow) -> list[Section]:
    target = TargetRow(device=record.device, how="measured", optimise="latency", candidates=[row], chosen=None)
    size = [Figure("Size", bytes_text(row.bytes), "", "counted")] if row.bytes > 0 else []
    cards = [*time_figures(row, None), *size]
    return [
        Section("figures", "", [Block("cards", cards=cards)] if cards else []),
        Section("comparison", "Comparison", comparison_blocks(record.comparison)),
        Section("latency", "Latency", latency_blocks(target)),
        Section("conditions", "Measurement conditions", conditions_blocks([row])),
        Section("operators", "Operators", operators_blocks([row]) or text(record.operators_note)),
        Section("placement", "Placement", placement_blocks([row])),
        Section("roofline", "Roofline, estimated", [*_missing(record), *roofline_blocks([row], record.probe)]),
        Section("model", "Model", _model(record.model)),
        Section("device", "Device", grid(device_table(record.conditions)) if record.conditions else []),
    ]


def _missing(record: ProfileRecord) -> list[Block]:
    return text(record.roofline_note) if record.roofline is None else []


def _sentence(row: CandidateRow) -> str:
    """`p50 2.29 ms (2.28 to 2.30), p90 2.41 ms, p99 2.78 ms, peak memory 109 MB`."""
    parts = []
    names = {"p50": "latency_p50_ms", "p90": "latency_p90_ms", "p99": "latency_p99_ms", "peak memory": "peak_memory_mb"}
    for name, metric in names.items():
        item = metric_of(row, metric)
        if item:
            span = interval_text(metric, item.get("interval"))
            parts.append(f"{name} {amount(metric, item['value'])}{f' ({span})' if span else ''}")
    return f"{', '.join(parts)}." if parts else ""


def _model(model: ModelRow) -> list[Block]:
    facts = {"file": model.file, "runtime": runtime_name(model.runtime), "bytes": model.bytes, "sha-256": model.sha256}
    return [
        *grid(facts_table("Model", facts)),
        *grid(_tensors("Input", model.inputs), _tensors("Output", model.outputs)),
    ]


def _tensors(kind: str, rows: Sequence[TensorRow]) -> Table:
    ran = any(row.run for row in rows)
    body: list[list[Cell | str]] = [
        [
            Cell(row.name, kind="name"),
            row.dtype,
            " × ".join(str(extent) for extent in row.shape),
            *([" × ".join(str(extent) for extent in row.run)] if ran else []),
        ]
        for row in rows
    ]
    return table([kind, "Type", "Shape", *(["Run with"] if ran else [])], body)
