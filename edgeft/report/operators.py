"""Where a run's time goes: one bar per kind of operator, coloured by the backend that ran it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from edgeft.record import CandidateRow, OperatorRow
from edgeft.report.svg import SERIES, element, label, line, picture
from edgeft.report.tables import Cell, Table, table
from edgeft.report.words import DASH, significant

WIDTH, ROW, TOP = 430.0, 21.0, 6.0
NAMES, NUMBERS = 152.0, 110.0
MOST = 12
"""Kinds of operators, and single operators, shown by name; the rest is one bar."""
LONGEST = 21
"""Characters of a bar's name and count that fit beside it."""
REST = "rest"


@dataclass(frozen=True)
class Bar:
    """Operators of one kind on one backend: how many, milliseconds of one run together, share of all operators."""

    op: str
    backend: str
    count: int
    ms: float
    share: float


def group_operators(rows: Sequence[OperatorRow]) -> list[Bar]:
    """The 12 kinds that take longest, then one bar for the rest, if any."""
    groups: dict[tuple[str, str], list[OperatorRow]] = {}
    for row in rows:
        if isfinite(row.ms) and isfinite(row.share):
            groups.setdefault((row.op or row.name, row.backend), []).append(row)
    bars = [Bar(op, backend, *_sums(items)) for (op, backend), items in groups.items()]
    bars.sort(key=lambda bar: (-bar.ms, bar.op, bar.backend))
    head, tail = bars[:MOST], bars[MOST:]
    if tail:
        rest = Bar(REST, "", sum(b.count for b in tail), sum(b.ms for b in tail), sum(b.share for b in tail))
        return [*head, rest]
    return head


def backend_series(rows: Sequence[CandidateRow]) -> dict[str, int]:
    """Backend -> series colour, the same for all candidates of a target."""
    names = {item.backend for row in rows for item in row.operators} | {name for row in rows for name in row.placement}
    return {name: index % SERIES for index, name in enumerate(sorted(names - {""}))}


def plot_operators(row: CandidateRow, colours: Mapping[str, int]) -> str:
    """Horizontal bars, longest first; empty without a profile."""
    bars = group_operators(row.operators)
    longest = max((bar.ms for bar in bars), default=0.0)
    if longest <= 0:
        return ""
    room = WIDTH - NAMES - NUMBERS
    parts = [line(NAMES, 0, NAMES, TOP + ROW * len(bars), "axis")]
    for index, bar in enumerate(bars):
        y = TOP + ROW * index
        middle = y + ROW / 2 + 1
        wide = max(0.8, bar.ms / longest * room)
        series = f"s{colours[bar.backend]}" if bar.backend in colours else "rest"
        times = f" ×{bar.count}" if bar.count > 1 else ""
        most = LONGEST - len(times)
        name = bar.op if len(bar.op) <= most else bar.op[: most - 1] + "…"
        title = f"{bar.op}{f' on {bar.backend}' if bar.backend else ''}: {bar.count} nodes, {significant(bar.ms)} ms"
        parts.append(
            element(
                "rect",
                element("title", text=title),
                x=NAMES,
                y=y + 3,
                width=wide,
                height=ROW - 7,
                class_=f"bar {series}",
            )
        )
        parts.append(label(NAMES - 7, middle + 3, f"{name}{times}", "op-name", "end"))
        parts.append(label(WIDTH - 46, middle + 3, f"{significant(bar.ms)} ms", "tick", "end"))
        parts.append(label(WIDTH - 2, middle + 3, f"{bar.share:.1%}", "tick", "end"))
    title = f"Operators of {row.name}: milliseconds of one run by kind and backend"
    return picture(WIDTH, TOP * 2 + ROW * len(bars), title, *parts, class_="plot small")


def longest_table(rows: Sequence[OperatorRow]) -> Table:
    """The 12 single operators that take longest."""
    finite = sorted((r for r in rows if isfinite(r.ms) and isfinite(r.share)), key=lambda r: (-r.ms, r.name))
    body: list[list[Cell | str]] = [
        [
            Cell(row.name, kind="name"),
            row.op,
            row.backend or DASH,
            Cell(f"{significant(row.ms)} ms"),
            f"{row.share:.1%}",
        ]
        for row in finite[:MOST]
    ]
    return table(["Operator", "Kind", "Backend", "Mean of one run", "Share"], body, (3, 4))


def _sums(rows: Sequence[OperatorRow]) -> tuple[int, float, float]:
    return len(rows), sum(row.ms for row in rows), sum(row.share for row in rows)
