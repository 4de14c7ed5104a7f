"""The history of one name as a page: every version, its metrics over the versions, what happened. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

from edgeft import __version__
from edgeft.metric_names import is_share
from edgeft.report.html import stylesheet, template_environment
from edgeft.report.registry import metric_names, move_text
from edgeft.report.sections import Block, Plot, Section, caption, figures, grid, keep, safe
from edgeft.report.svg import Frame, element, label, line, picture
from edgeft.report.tables import Cell, Table, status_cell, table
from edgeft.report.words import DASH, amount, bytes_text, count_text, metric_name
from edgeft.ship.registry.differences import NO_COMPARISON
from edgeft.ship.registry.log import Entry
from edgeft.ship.registry.view import VersionRow

WIDTH, HEIGHT = 460.0, 230.0
MOST_LABELS = 12
CASES = (
    "One point a version, in the order they were added. A line joins two versions that were gated on the same cases; "
    "without one, a higher point is no better model. A ring is what production holds."
)


def render_history(name: str, rows: Sequence[VersionRow], moves: Sequence[Entry], fault: str = "") -> str:
    """One-file HTML of a name's versions, oldest first. Everything in it is escaped."""
    damaged = [f"{row.label}: {row.faults[0]}" for row in rows if row.faults]
    reasons = ([f"the log does not hold together: {fault}"] if fault else []) + damaged
    page: dict[str, Any] = {
        "css": stylesheet(),
        "title": name,
        "lead": count_text(len(rows), "version"),
        "meta": f"last entry {moves[-1].at}" if moves else "",
        "tone": "fail" if reasons else "pass",
        "word": "✕ DAMAGED" if reasons else "✓ WHOLE",
        "rest": "the registry is not as it was written" if reasons else "every entry of the log follows the one before",
        "reasons": reasons,
        "sentences": [text for text in (_released(rows),) if text],
        "sections": keep(_sections(rows, moves)),
        "version": __version__,
    }
    text = template_environment().get_template("history.html.j2").render(page=page)
    return text.encode("utf-8", "replace").decode("utf-8")


def _released(rows: Sequence[VersionRow]) -> str:
    held = [f"{row.label} is in {', '.join(row.stages)}" for row in rows if row.stages]
    return f"{'; '.join(held)}." if held else "Nothing is released."


def _sections(rows: Sequence[VersionRow], moves: Sequence[Entry]) -> list[Section]:
    plots = [Plot(safe(_plot(name, rows)), metric_name(name)) for name in metric_names(rows)]
    size = Plot(safe(_plot_sizes(rows)), "Model size")
    shown = [plot for plot in (*plots, size) if str(plot.picture)]
    history: list[Block] = [*figures(shown), *caption(CASES)] if shown else []
    return [
        Section("history", "History", history),
        Section("versions", "Versions", [*grid(_versions(rows)), *caption(NO_COMPARISON)]),
        Section("log", "Log", grid(_log(moves))),
    ]


def _plot(metric: str, rows: Sequence[VersionRow]) -> str:
    """A metric of the gate set over the versions; empty where fewer than two have it."""
    share = is_share(metric)
    points = [
        (at, row.facts.metrics[metric] * (100 if share else 1), row.facts.gate_set)
        for at, row in enumerate(rows)
        if row.facts and isfinite(row.facts.metrics.get(metric, float("nan")))
    ]
    return _draw(f"{metric_name(metric)}{' (%)' if share else ''}", points, rows)


def _plot_sizes(rows: Sequence[VersionRow]) -> str:
    points = [(at, row.facts.model_bytes / 1e6, "any") for at, row in enumerate(rows) if row.facts]
    return _draw("Model (MB)", points, rows)


def _draw(name: str, points: Sequence[tuple[int, float, str]], rows: Sequence[VersionRow]) -> str:
    if len(points) < 2:
        return ""
    values = [value for _, value, _ in points]
    frame = Frame.over(WIDTH, HEIGHT, (0.0, float(len(rows) - 1)), (min(values), max(values)), left=56, pad=0.08)
    parts = [_axes(frame, name, rows)]
    for (at, value, cases), (then, later, others) in pairwise(points):
        if cases and cases == others:
            parts.append(line(frame.x(at), frame.y(value), frame.x(then), frame.y(later), "curve s0"))
    for at, value, _ in points:
        x, y = frame.x(at), frame.y(value)
        told = element("title", text=f"{rows[at].label}: {value:.4g}")
        parts.append(element("circle", told, cx=x, cy=y, r=4, class_="dot s0"))
        if "production" in rows[at].stages:
            parts.append(element("circle", cx=x, cy=y, r=8, class_="ring s0", fill="none"))
    said = "; ".join(f"{rows[at].label} {value:.4g}" for at, value, _ in points)
    return picture(WIDTH, HEIGHT, f"{name} over versions", *parts, class_="plot small", said=said)


def _axes(frame: Frame, name: str, rows: Sequence[VersionRow]) -> str:
    """The frame's own axis of values, and versions below: their names are no numbers."""
    parts = [label(4, 11, name, "name")]
    for value, text in frame.y.ticks(5):
        parts.append(line(frame.x.start, frame.y(value), frame.x.end, frame.y(value), "grid"))
        parts.append(label(frame.x.start - 7, frame.y(value) + 4, text, "tick", "end"))
    every = -(-len(rows) // MOST_LABELS)
    for at in range(0, len(rows), every):
        parts.append(label(frame.x(at), frame.y.start + 17, rows[at].entry.version[:8], "tick", "middle"))
    parts.append(line(frame.x.start, frame.y.start, frame.x.end, frame.y.start, "axis"))
    parts.append(label((frame.x.start + frame.x.end) / 2, frame.height - 6, "version", "name", "middle"))
    return "".join(parts)


def _versions(rows: Sequence[VersionRow]) -> Table:
    names = metric_names(rows)
    heads = ["Version", "Verdict", "Stage", "Model", *map(metric_name, names), "Gate set", "Recipe", "Parent"]
    body: list[list[Cell | str]] = []
    for row in rows:
        facts = row.facts
        verdict = Cell("DAMAGED", tone="error") if row.faults or not facts else status_cell(facts.status)
        values = [amount(name, facts.metrics.get(name) if facts else None) for name in names]
        origin = [facts.gate_set[:12] or DASH, facts.recipe[:12] or DASH] if facts else [DASH, DASH]
        head = Cell(row.label, small=row.entry.bundle[:12], kind="name")
        size = bytes_text(facts.model_bytes) if facts else DASH
        stages = ", ".join(row.stages) or DASH
        body.append([head, verdict, stages, size, *values, *origin, row.parent or DASH])
    return table(heads, body, range(3, 4 + len(names)), stack=True)


def _log(moves: Sequence[Entry]) -> Table:
    rows: list[list[Cell | str]] = [
        [str(entry.seq), entry.at[:16].replace("T", " "), move_text(entry).split(" ", 2)[2], entry.before[:12]]
        for entry in moves
    ]
    return table(["No.", "When (UTC)", "What, who and why", "Hash of the entry before"], rows)
