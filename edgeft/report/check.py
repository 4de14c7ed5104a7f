"""A check's record as lines for the terminal and as Markdown for a pull request. Pure."""

from __future__ import annotations

import re

from edgeft.ship.check.record import CheckRecord, CheckVerdict, SideRow

LABEL = 10
SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "⚠️"}
ENTITIES = {"<": "&lt;", "&": "&amp;", "@": "&#64;"}
"""What a backslash does not disarm: GitHub would still tell the person behind `@name`."""
MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+\-!|~@&$])")
"""What Markdown, the HTML inside it, or a forge's mentions and formulas could take for more than text."""


def check_lines(record: CheckRecord) -> list[str]:
    """Status, verdicts with their reasons, what was compared, and what a reader must know."""
    lines = [f"{record.status}: {record.candidate.path} against {record.baseline.path} on {record.device}"]
    for verdict in record.verdicts:
        warn = " (warns only)" if verdict.severity == "warn" else ""
        lines.append(f"  {verdict.status:<12} {verdict.name}{warn}")
        lines.append(f"               {verdict.why}")
        if verdict.limit_from:
            lines.append(f"               limit: {verdict.limit_from}")
    lines += [f"  left out     {row.check} ({row.why})" for row in record.left_out]
    if record.data is not None:
        units = "" if record.data.unit == "row" else f" in {record.data.units:,} units ({record.data.unit})"
        lines.append(_line("cases", f"{record.data.n:,}{units} of {record.data.path}"))
    if record.outputs:
        lines.append(_line("outputs", record.outputs))
    lines += [_line(role, _side(side)) for role, side in _sides(record)]
    lines += [_line("note", note) for note in record.notes]
    return lines


def check_markdown(record: CheckRecord) -> str:
    """A heading with the status, one table row per verdict, and the conditions folded away. Ends in a newline."""
    lines = [
        f"### edgeft check: {SIGNS[record.status]} {record.status}",
        "",
        f"{_text(record.candidate.path)} against {_text(record.baseline.path)} on {_text(record.device)}",
        "",
        "| Check | Verdict | Candidate | Baseline | Decided on (interval) | Limit | n |",
        "| --- | --- | ---: | ---: | --- | --- | ---: |",
        *(_row(verdict) for verdict in record.verdicts),
        *(f"| {row.check} | left out by {_text(row.why)} | | | | | |" for row in record.left_out),
        "",
        *(f"- **{_text(verdict.name)}**: {_text(verdict.why)}" for verdict in record.verdicts),
        "",
        "<details><summary>What was compared</summary>",
        "",
        *(f"- {role}: {_text(_side(side))}" for role, side in _sides(record)),
    ]
    if record.data is not None:
        lines.append(f"- cases: {record.data.n:,} of {_text(record.data.path)}, by {_text(record.data.unit)}")
    if record.outputs:
        lines.append(f"- outputs: {_text(record.outputs)}")
    lines += [f"- note: {_text(note)}" for note in record.notes]
    lines += [f"- limit of {_text(item.name)}: {_text(item.limit_from)}" for item in record.verdicts if item.limit_from]
    lines += [f"- edgeft {_text(record.edgeft)}, {record.started}", "", "</details>", ""]
    return "\n".join(lines)


def _row(verdict: CheckVerdict) -> str:
    figures = [_figure(value, verdict.unit) for value in (verdict.candidate, verdict.baseline)]
    decided = ""
    if verdict.value is not None and verdict.interval is not None:
        low, high = (_number(verdict, end) for end in verdict.interval)
        spread = "" if low == high else f" ({low} to {high})"
        decided = f"{_number(verdict, verdict.value)}{spread}"
    limit = "" if verdict.limit is None else _number(verdict, verdict.limit)
    warn = " (warns only)" if verdict.severity == "warn" else ""
    n = "" if verdict.n is None else f"{verdict.n:,}"
    cells = (_text(verdict.name), f"{SIGNS[verdict.status]} {verdict.status}{warn}", *figures, decided, limit, n)
    return f"| {' | '.join(cells)} |"


def _number(verdict: CheckVerdict, value: float) -> str:
    if verdict.check == "size":
        return f"{value:,.0f} bytes"
    if verdict.check == "latency":
        return f"{value:.3f}×"
    return f"{value:+.4f}" if value != verdict.limit else f"{value:.4g}"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.2f}%" if unit == "%" else f"{value:.4g}{f' {unit}' if unit else ''}"


def _sides(record: CheckRecord) -> list[tuple[str, SideRow]]:
    return [("candidate", record.candidate), ("baseline", record.baseline)]


def _side(side: SideRow) -> str:
    gated = f", gates: {side.gated}" if side.gated else ""
    reads = f", preprocessing: {side.preprocessing}" if side.preprocessing else ""
    size = f"{side.bytes:,} bytes, sha256 {side.sha256[:12]}"
    return f"{side.path} ({side.form}, {side.runtime}, {size}{gated}{reads})"


def _text(value: str) -> str:
    """Plain text in a Markdown cell: markup is escaped, line ends are spaces, nothing else of it is special."""
    return MARKUP.sub(lambda match: ENTITIES.get(match[1], f"\\{match[1]}"), " ".join(value.split()))


def _line(name: str, text: str) -> str:
    return f"  {name:<{LABEL}} {text}"
