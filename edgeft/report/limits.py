"""What the gates ask for, as lines in a plot of quality against cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from edgeft.metric_names import HEADLINES, lower_is_better
from edgeft.record import CandidateRow, TargetRow
from edgeft.report.figures import metric_of
from edgeft.report.places import Box
from edgeft.report.svg import CHAR_WIDTH, Frame, label, line

SMALL = 0.92
"""Width of the limits' text against the names'."""


@dataclass(frozen=True)
class Limits:
    """quality: (height, text) of horizontal lines. cost: the most a gate allows, None without one."""

    quality: Sequence[tuple[float, str]]
    cost: float | None


def cost_metric(target: TargetRow) -> str | None:
    """What the x axis shows: the latency a gate limits, else p50, else size; None if no candidate has any."""
    gated = [str(v.get("metric")) for v in target.verdicts if str(v.get("metric", "")).startswith("latency_")]
    for metric in (*gated, "latency_p50_ms", "artifact_mb"):
        if any(metric_of(row, metric) for row in target.candidates):
            return metric
    return None


def quality_metric(target: TargetRow) -> str | None:
    """What the y axis shows, where more is better: a headline, else the first metric that is no cost and no loss."""
    known = [str(item.get("metric")) for row in target.candidates for item in row.metrics]
    others = [name for name in known if not name.endswith(("_ms", "_mb")) and not lower_is_better(name)]
    return next((name for name in (*HEADLINES, *others) if name in known), None)


def unit_of(metric: str) -> str:
    """`MB` for sizes, `ms` for times."""
    return "MB" if metric.endswith("_mb") else "ms"


def find_limits(target: TargetRow, cost: str, quality: str, scale: float) -> Limits:
    """Lines of the search set: the source (from the flips), what a gate allows below it, and the cost's limit."""
    before = next((v for row in target.candidates if (v := _source_on_search(row)) is not None), None)
    rows = []
    if quality == "accuracy" and before is not None:
        rows.append((before * scale, "source"))
    for verdict in target.verdicts:
        limit = verdict.get("limit")
        if verdict.get("metric") != quality or not isinstance(limit, int | float) or not isfinite(limit):
            continue
        if not str(verdict.get("quantity", "")).startswith("loss of"):
            rows.append((limit * scale, f"gate: {limit * scale:g}{'%' if scale > 1 else ''}"))
        elif quality == "accuracy" and before is not None:
            rows.append(((before - limit) * scale, f"gate: source − {limit * scale:g} points"))
    limits = [v.get("limit") for v in target.verdicts if v.get("metric") == cost]
    most = next((float(limit) for limit in limits if isinstance(limit, int | float) and isfinite(limit)), None)
    return Limits(rows, most)


def draw_limits(
    frame: Frame, limits: Limits, cost: str, points: Sequence[tuple[float, float]]
) -> tuple[list[str], list[Box]]:
    """(markup, boxes of the texts that names must not cover). points: centres of marks, which the texts avoid."""
    parts, boxes = [], []
    for value, text in limits.quality:
        y, wide = frame.y(value), len(text) * CHAR_WIDTH * SMALL + 8
        kind = "source" if text == "source" else "limit"
        right, left = (frame.x.end - wide, y - 16, frame.x.end, y), (frame.x.start, y - 16, frame.x.start + wide, y)
        box = left if _covers(right, points) and not _covers(left, points) else right
        at, anchor = (box[2] - 4, "end") if box is right else (box[0] + 4, "start")
        parts += [line(frame.x.start, y, frame.x.end, y, kind), label(at, y - 4, text, f"{kind}-name", anchor)]
        boxes += [box, (frame.x.start, y - 1, frame.x.end, y + 1)]
    if limits.cost is not None:
        x, text = frame.x(limits.cost), f"gate: at most {limits.cost:g} {unit_of(cost)}"
        wide = len(text) * CHAR_WIDTH * SMALL + 8
        near_end = x + wide > frame.x.end
        at, anchor = (x - 5, "end") if near_end else (x + 5, "start")
        parts += [line(x, frame.y.start, x, frame.y.end, "limit")]
        parts += [label(at, frame.y.end + 10, text, "limit-name", anchor)]
        start = x - wide if near_end else x
        boxes += [(start, frame.y.end - 4, start + wide, frame.y.end + 14)]
        boxes += [(x - 1, frame.y.end, x + 1, frame.y.start)]
    return parts, boxes


def _covers(box: Box, points: Sequence[tuple[float, float]]) -> bool:
    return any(box[0] - 9 < x < box[2] + 9 and box[1] - 9 < y < box[3] + 9 for x, y in points)


def _source_on_search(row: CandidateRow) -> float | None:
    total = sum(row.flips.values())
    return (row.flips.get("both_right", 0) + row.flips.get("lost", 0)) / total if total else None
