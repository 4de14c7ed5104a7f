"""Verdicts as tables: each gate with its owner, and of a gate with subgroups every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeft.report.plots import plot_verdict
from edgeft.report.sections import Block, grid, text
from edgeft.report.tables import Cell, Table, status_cell, table
from edgeft.report.words import DASH

SUBGROUPS = (
    "A gate on subgroups passes only if the whole and every subgroup pass by themselves, each at full confidence; the "
    "worst of these lines is what decides."
)


def verdicts_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Each gate's answer with the interval against the limit and the reason in words."""
    rows: list[list[Cell | str]] = []
    for verdict in verdicts:
        warn = "warns only" if verdict.get("severity") == "warn" else ""
        status = status_cell(str(verdict.get("status", "?")))
        rows.append(
            [
                Cell(status.text, tone=status.tone, small=warn),
                Cell(str(verdict.get("gate", "")), small=account_text(verdict)),
                _strip(verdict),
                Cell(str(verdict.get("why", "")), small=str(verdict.get("method", "")), kind="why"),
            ]
        )
    return table(["Verdict", "Gate", "Interval and limit", "Why"], rows, stack=True)


def subgroup_blocks(verdicts: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A table for each gate that was decided by subgroups, none without one."""
    blocks: list[Block] = []
    for verdict in verdicts:
        if parts := list(verdict.get("parts") or ()):
            blocks += [*text(f"{verdict.get('gate', '')}: {verdict.get('status', '?')}"), *grid(_parts_table(parts))]
    return [*text(SUBGROUPS), *blocks] if blocks else []


def _parts_table(parts: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[list[Cell | str]] = []
    for part in parts:
        n = part.get("n")
        rows.append(
            [
                str(part.get("subgroup") or "all together"),
                status_cell(str(part.get("status", "?"))),
                f"{n:,}" if isinstance(n, int) else DASH,
                _strip(part),
                Cell(str(part.get("why", "")), kind="why"),
            ]
        )
    return table(["Subgroup", "Verdict", "Cases", "Interval and limit", "Why"], rows, (2,), stack=True)


def account_text(verdict: Mapping[str, Any]) -> str:
    """`A. Hughes: below reader variability`, or what a margin lacks; empty for a gate that needs neither."""
    said = ": ".join(str(verdict[name]) for name in ("owner", "justification") if verdict.get(name))
    lacks = [str(name) for name in verdict.get("unaccounted") or ()]
    missing = f"margin without {' and '.join(f'an {name}' if name == 'owner' else name for name in lacks)}"
    return "; ".join([*([said] if said else []), *([missing] if lacks else [])])


def _strip(verdict: Mapping[str, Any]) -> Cell:
    from markupsafe import Markup

    strip = plot_verdict(verdict)
    return Cell(picture=Markup(strip) if strip else DASH)  # noqa: S704 - built by svg.py, which escapes
