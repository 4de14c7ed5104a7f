"""A registry for the terminal: versions, one of them whole, two side by side, a name's history. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeft.report.words import DASH, bytes_text
from edgeft.ship.registry.differences import Comparison, is_recorded_time, verdict_text
from edgeft.ship.registry.facts import BundleFacts, VerdictFact
from edgeft.ship.registry.log import Entry
from edgeft.ship.registry.view import VersionRow

WIDEST = 60
MOST_METRICS = 4


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells, left-aligned, the first row being the heads."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def safe_text(text: str, most: int = WIDEST) -> str:
    """A stranger's words on a terminal: what does not print is spelt out, what is long is cut."""
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= most else f"{text[: most - 3]}..."


def list_lines(rows: Sequence[VersionRow]) -> list[str]:
    """One line a version."""
    if not rows:
        return ["no versions yet: edgeft registry add BUNDLE"]
    heads = ("VERSION", "VERDICT", "STAGE", "DEVICE", "MODEL", "SIGNED", "ADDED", "PARENT")
    return columns([heads, *(_line(row) for row in rows)])


def _line(row: VersionRow) -> tuple[str, ...]:
    facts = row.facts
    verdict = "DAMAGED" if row.faults or facts is None else facts.status
    return (
        row.label,
        safe_text(verdict),
        ",".join(row.stages) or DASH,
        safe_text(facts.device, 24) if facts else DASH,
        bytes_text(facts.model_bytes) if facts else DASH,
        "yes" if row.signed else "no",
        row.entry.at[:10],
        row.parent or DASH,
    )


def version_lines(row: VersionRow, moves: Iterable[Entry]) -> list[str]:
    """Everything about one version. moves: the log's entries about it."""
    facts = row.facts
    found = [f"{row.label}: {'DAMAGED' if row.faults or facts is None else safe_text(facts.status)}"]
    found += [f"  damaged: {safe_text(fault, 200)}" for fault in row.faults]
    found.append(_pair("bundle", row.entry.bundle))
    found.append(_pair("stage", ", ".join(row.stages) or "none"))
    if facts is not None:
        found += _facts_lines(facts)
        told = f"{row.signed} beside it; `registry promote` asks whose" if row.signed else "none"
        found.append(_pair("signatures", told))
        found += ["lineage", _pair("parent", row.parent or "none was named")]
        found.append(_pair("recipe", facts.recipe or "not stated"))
        found += [_pair(f"data {split}", digest) for split, digest in facts.data.items()]
        found += ["gates"] if facts.verdicts else []
        found += [f"  {_verdict_line(verdict)}" for verdict in facts.verdicts]
    return [*found, "log", *(f"  {safe_text(move_text(entry), 250)}" for entry in moves)]


def _facts_lines(facts: BundleFacts) -> list[str]:
    tensors = [("input", *item) for item in facts.inputs.items()] + [
        ("output", *item) for item in facts.outputs.items()
    ]
    return [
        _pair("runs on", f"{facts.device}, {facts.runtime}, {facts.candidate}"),
        _pair("task", f"{facts.task}: {', '.join(facts.labels)}"),
        _pair("size", f"model {bytes_text(facts.model_bytes)}, {facts.files} files of {bytes_text(facts.bytes)}"),
        *(_pair(side, f"{name}: {text}") for side, name, text in tensors),
    ]


def _verdict_line(verdict: VerdictFact) -> str:
    said = safe_text(f"{verdict.gate}: {verdict_text(verdict)}", 150)
    return f"{said}, as recorded then" if is_recorded_time(verdict.metric) else said


def _pair(name: str, text: str) -> str:
    return f"  {safe_text(name, 14):<14} {safe_text(text, 200)}"


def move_text(entry: Entry) -> str:
    """`2026-11-26T00:10:00Z promote router:2 to production by Ada: why (key 12ab...)`."""
    what = {
        "add": f"add {entry.name}:{entry.version}",
        "promote": f"promote {entry.name}:{entry.version} to {entry.stage}",
        "rollback": f"roll {entry.stage} back to {entry.name}:{entry.version}",
        "trust": f"trust key {entry.key}",
        "distrust": f"distrust key {entry.key}",
    }[entry.event]
    by = f" by {entry.by}" if entry.by else ""
    reason = f": {entry.reason}" if entry.reason else ""
    key = f" (signed by {entry.key})" if entry.event in ("promote", "rollback") else ""
    return f"{entry.seq} {entry.at} {what}{by}{reason}{key}"


def history_lines(rows: Sequence[VersionRow]) -> list[str]:
    """One name's metrics, version by version. A line between two says that the cases changed."""
    names = metric_names(rows)[:MOST_METRICS]
    heads = ("VERSION", "VERDICT", "STAGE", "MODEL", *names, "CASES")
    cells, breaks, before = [heads], dict[int, str](), ""
    for row in rows:
        facts = row.facts
        values = [facts.metrics.get(name) if facts else None for name in names]
        gate_set = facts.gate_set if facts else ""
        if before and gate_set != before:
            breaks[len(cells)] = "  -- gated on other cases from here on --"
        before = gate_set or before
        head = _line(row)
        cases = f"{facts.gate_cases:,}" if facts and facts.gate_cases is not None else DASH
        cells.append((*head[:3], head[4], *(DASH if value is None else f"{value:.4g}" for value in values), cases))
    lines = columns(cells)
    for index in sorted(breaks, reverse=True):
        lines.insert(index, breaks[index])
    return lines


def metric_names(rows: Sequence[VersionRow]) -> list[str]:
    """What any version's gate set measured, times left out."""
    found = {name for row in rows if row.facts for name in row.facts.metrics if not is_recorded_time(name)}
    return sorted(found)


def comparison_lines(one: str, other: str, found: Comparison) -> list[str]:
    """Three columns; what differs is marked."""
    rows = [("", "", one, other)]
    rows += [
        ("" if row.same else "*", safe_text(row.what), safe_text(row.one, 44), safe_text(row.other, 44))
        for row in found.rows
    ]
    return [*columns(rows), *(f"note: {note}" for note in found.notes)]
