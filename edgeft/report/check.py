"""A check's record as lines for the terminal and as Markdown for a pull request. Pure."""

from __future__ import annotations

import re

from edgeft.report.verdicts import account_text
from edgeft.ship.check.record import CheckRecord, CheckVerdict, DataRow, SideRow

LABEL = 10
SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "⚠️"}
MARKUP = re.compile(r"[\\`*_{}\[\]<>|~$&]")
"""What inside a line could be taken for more than text: Markdown, HTML, formulas, the end of a cell."""
ENTITIES = {"<": "&lt;", "&": "&amp;"}
CALLS = re.compile(r"(?<![\w])([@#])(?=\w)")
"""`@name` and `#12` are found in the finished text, whatever was escaped: a word joiner behind the sign ends them."""


def check_lines(record: CheckRecord) -> list[str]:
    """Status, verdicts with their reasons, what was compared, and what a reader must know."""
    lines = [f"{record.status}: {record.candidate.path} against {record.baseline.path} on {record.device}"]
    for verdict in record.verdicts:
        warn = " (warns only)" if verdict.severity == "warn" else ""
        lines.append(f"  {verdict.status:<12} {verdict.name}{warn}")
        lines.append(f"               {verdict.why}")
        lines += [
            f"               {part.status:<12} {part.subgroup or 'the whole'}: {part.why}" for part in verdict.parts
        ]
        if verdict.limit_from:
            lines.append(f"               limit: {limit_text(verdict)}")
    lines += [f"  left out     {row.check} ({row.why})" for row in record.left_out]
    if record.data is not None:
        lines.append(_line("cases", _cases(record.data)))
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
        f"Candidate {_text(record.candidate.path)}, baseline {_text(record.baseline.path)}, on {_text(record.device)}.",
        "",
        "| Check | Verdict | Candidate | Baseline | Decided on (interval) | Limit | n |",
        "| --- | --- | ---: | ---: | --- | --- | ---: |",
        *(_row(verdict) for verdict in record.verdicts),
        *(f"| {row.check} | left out by {_text(row.why)} | | | | | |" for row in record.left_out),
        "",
        *(line for verdict in record.verdicts for line in _reasons(verdict)),
        "",
        "<details><summary>What was compared</summary>",
        "",
        *(f"- {role}: {_text(_side(side))}" for role, side in _sides(record)),
    ]
    if record.data is not None:
        lines.append(f"- cases: {_text(_cases(record.data))}")
    if record.outputs:
        lines.append(f"- outputs: {_text(record.outputs)}")
    lines += [f"- note: {_text(note)}" for note in record.notes]
    lines += [
        f"- limit of {_text(item.name)}: {_text(limit_text(item))}" for item in record.verdicts if item.limit_from
    ]
    lines += [f"- edgeft {_text(record.edgeft)}, {record.started}", "", "</details>", ""]
    return "\n".join(lines)


def limit_text(verdict: CheckVerdict) -> str:
    """Where the limit was stated, and who answers for it or that nobody does."""
    account = account_text(verdict.model_dump())
    return f"{verdict.limit_from} ({account})" if account else verdict.limit_from


def _reasons(verdict: CheckVerdict) -> list[str]:
    """The sentence, and below it those of the subgroups."""
    parts = [f"  - {_text(part.subgroup or 'the whole')}: {part.status}, {_text(part.why)}" for part in verdict.parts]
    return [f"- **{_text(verdict.name)}**: {_text(verdict.why)}", *parts]


def _row(verdict: CheckVerdict) -> str:
    figures = [_figure(value, verdict.unit) for value in (verdict.candidate, verdict.baseline)]
    decided = ""
    if verdict.value is not None and verdict.interval is not None:
        low, high = (_number(verdict, end) for end in verdict.interval)
        spread = "" if low == high else f" ({low} to {high})"
        what = {"accuracy": "loss ", "latency": "ratio ", "size": ""}[verdict.check]
        decided = f"{what}{_number(verdict, verdict.value)}{spread}"
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


def _cases(data: DataRow) -> str:
    units = "" if data.units == data.n else f" in {data.units:,} units ({data.unit})"
    return f"{data.n:,}{units} of {data.path}, digest {data.digest[:12]}"


def _side(side: SideRow) -> str:
    gated = f", gates: {side.gated}" if side.gated else ""
    signed = f", signed by {side.signer}" if side.signer else ""
    reads = f", preprocessing: {side.preprocessing}" if side.preprocessing else ""
    size = f"{side.bytes:,} bytes, sha256 {side.sha256[:12]}"
    return f"{side.path} ({side.form}, {side.runtime}, {size}{gated}{signed}{reads})"


def _text(value: str) -> str:
    """Plain text behind the beginning of a line: nothing in it is markup, calls anybody, or ends the line."""
    plain = MARKUP.sub(lambda match: ENTITIES.get(match[0], f"\\{match[0]}"), " ".join(value.split()))
    return CALLS.sub("\\1\u2060", plain)


def _line(name: str, text: str) -> str:
    return f"  {name:<{LABEL}} {text}"
