"""Tables as data: the templates lay them out, nothing here knows HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeft.record import DataRow, DifferenceRow, MergeRow, OpeningRow, ParityRow, StepRow
from edgeft.report.words import DASH, amount, bytes_text, metric_name, seconds_text, significant

TONES = {
    "PASS": "pass",
    "FAIL": "fail",
    "INCONCLUSIVE": "inconclusive",
    "chosen": "pass",
    "eligible": "neutral",
    "rejected": "inconclusive",
    "unsupported": "neutral",
    "failed": "error",
    "ran": "neutral",
    "cached": "neutral",
    "waiting": "neutral",
    "skipped": "neutral",
}
MAX_MATRIX = 20
MAX_CONFUSIONS = 15
STRONG = 0.55
"""Shades from here on are dark enough to need light text."""


@dataclass(frozen=True)
class Cell:
    """Text of a cell; tone: shown as a tag of that colour; small: a second line; picture: an SVG (safe markup)."""

    text: str = ""
    tone: str = ""
    small: str = ""
    kind: str = ""
    swatch: int | None = None
    picture: Any = ""


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    cells: Sequence[Cell]
    chosen: bool = False


@dataclass(frozen=True)
class Table:
    """heads and rows; numeric: indices of right-aligned columns; stack: one cell below the other on a narrow page.

    narrow: only as wide as its content.
    """

    heads: Sequence[str]
    rows: Sequence[Line]
    numeric: frozenset[int] = field(default_factory=frozenset)
    stack: bool = False
    narrow: bool = False


def table(
    heads: Sequence[str], rows: Sequence[Sequence[Cell | str]], numeric: Sequence[int] = (), *, stack: bool = False
) -> Table:
    """A table of cells or plain texts."""
    lines = [Line([item if isinstance(item, Cell) else Cell(item) for item in row]) for row in rows]
    return Table(heads, lines, frozenset(numeric), stack)


def narrow(heads: Sequence[str], rows: Sequence[Sequence[Cell | str]], numeric: Sequence[int] = ()) -> Table:
    """A table of a few short columns, only as wide as they are."""
    return replace(table(heads, rows, numeric), narrow=True)


def status_cell(status: str) -> Cell:
    """A status as a coloured tag that also says it in words."""
    return Cell(status, tone=TONES.get(status, "neutral"))


def openings_table(rows: Sequence[OpeningRow]) -> Table:
    """Every opening of the gate set, newest last."""
    body: list[list[Cell | str]] = []
    for row in rows:
        said = ", ".join(f"{name}: {candidate}" for name, candidate in sorted(row.targets.items()))
        body.append([str(row.number), row.when, row.build, Cell(said, kind="name"), Cell(row.digest[:12], kind="name")])
    return table(["No.", "When", "Build", "Opened for", "Gate set"], body)


def merge_table(row: MergeRow) -> Table:
    """Both ways to merge against the unmerged model."""
    heads = [
        "Merged into",
        "KL divergence (nats)",
        "Same top class",
        "Largest logit difference",
        metric_name(row.metric),
        "",
    ]
    body: list[list[Cell | str]] = [
        [
            Cell(f"{item.name}: {item.base}"),
            significant(item.kl),
            f"{item.top1_agreement:.1%}",
            significant(item.max_logit_difference),
            amount(row.metric, item.metric_value),
            Cell("taken", tone="pass") if item.taken else Cell(),
        ]
        for item in row.candidates
    ]
    return table(heads, body, (1, 2, 3, 4))


def splits_table(data: DataRow) -> Table:
    """Rows, units and truncation of each split."""
    body = [
        [
            row.name,
            f"{row.n:,}",
            f"{row.units:,}",
            f"{row.groups:,}",
            f"{row.truncated:,} ({row.truncated / row.n:.1%})" if row.truncated is not None and row.n else DASH,
            row.digest[:12],
        ]
        for row in data.splits
    ]
    return table(["Split", "Rows", f"Units ({data.unit})", "Groups", "Cut at the length", "Digest"], body, (1, 2, 3, 4))


def classes_table(data: DataRow) -> Table:
    """Rows of each class in each split."""
    body = [[name, *(f"{row.classes.get(name, 0):,}" for row in data.splits)] for name in data.labels]
    return table(["Class", *(row.name for row in data.splits)], body, range(1, len(data.splits) + 1))


def steps_table(rows: Sequence[StepRow]) -> Table:
    """What was done, what was cached, and how long it took."""
    body: list[list[Cell | str]] = []
    for row in rows:
        took = seconds_text(row.seconds) if row.state in ("ran", "failed") else DASH
        why = "; ".join(text for text in (row.why, *row.warnings) if text)
        size = bytes_text(row.bytes) if row.bytes else DASH
        body.append(
            [Cell(row.title or row.id, small=row.id), status_cell(row.state), took, size, Cell(why, kind="why")]
        )
    return table(["Step", "State", "Time", "Result", "Why"], body, (2, 3), stack=True)


def parity_table(rows: Mapping[str, ParityRow]) -> Table:
    """The float export against the model it was made from, on real inputs."""
    body: list[list[Cell | str]] = [
        [
            name,
            significant(row.max_abs),
            significant(row.mean_abs),
            significant(row.tolerance),
            f"{row.cases:,} cases: {', '.join(row.shapes)}",
            status_cell("PASS" if row.passed else "FAIL"),
        ]
        for name, row in rows.items()
    ]
    return table(
        ["Export", "Largest difference", "Mean difference", "Tolerance", "On", ""], body, (1, 2, 3), stack=True
    )


def differences_table(rows: Sequence[DifferenceRow], device: str) -> Table:
    """One candidate on this target and on another; where it is not the same bytes, by what."""
    body: list[list[Cell | str]] = [
        [
            Cell(row.candidate, kind="nowrap", small=f"other bytes: {row.other_bytes}" if row.other_bytes else ""),
            f"{device} against {row.against}",
            f"{row.n:,}",
            significant(row.max_abs),
            significant(row.mean_abs),
            f"{row.top1_agreement:.2%}" if row.top1_agreement is not None else DASH,
        ]
        for row in rows
    ]
    heads = ["Candidate", "Targets", "Cases", "Largest difference", "Mean difference", "Same top class"]
    return table(heads, body, (2, 3, 4, 5), stack=True)


def device_table(facts: Mapping[str, str]) -> Table:
    """What a device said of itself, in the order it was recorded; long lists of flags may break anywhere."""
    return table(
        ["Condition", "Reading"], [[key.replace("_", " "), Cell(text, kind="name")] for key, text in facts.items()]
    )


def facts_table(title: str, facts: Mapping[str, Any]) -> Table:
    """Key and value."""
    return table([title, ""], [[str(key), Cell(_fact(value), kind="name")] for key, value in sorted(facts.items())])


def _fact(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else significant(value)
