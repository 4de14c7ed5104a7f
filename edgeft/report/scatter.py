"""Quality against cost of every candidate, with intervals and what the gates ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeft.record import CandidateRow, TargetRow
from edgeft.report.summary import metric_of
from edgeft.report.svg import CHAR_WIDTH, SERIES, Frame, element, label, line, picture
from edgeft.report.words import SHARES, amount, metric_name

WIDTH, HEIGHT = 720.0, 400.0
LINE_HEIGHT = 14.0
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """A candidate in data units; intervals are (low, high) or None."""

    row: CandidateRow
    x: float
    y: float
    x_interval: tuple[float, float] | None
    y_interval: tuple[float, float] | None


def cost_metric(target: TargetRow) -> str | None:
    """What the x axis shows: the latency a gate limits, else p50, else size; None if no candidate has any."""
    gated = [str(v.get("metric")) for v in target.verdicts if str(v.get("metric", "")).startswith("latency_")]
    for metric in (*gated, "latency_p50_ms", "artifact_mb"):
        if any(metric_of(row, metric) for row in target.candidates):
            return metric
    return None


def quality_metric(target: TargetRow) -> str | None:
    """What the y axis shows: accuracy, else macro-F1, else the first metric that is not a cost."""
    known = [str(item.get("metric")) for row in target.candidates for item in row.metrics]
    others = [name for name in known if not name.endswith(("_ms", "_mb"))]
    return next((name for name in ("accuracy", "macro_f1", *others) if name in known), None)


def plot_tradeoff(target: TargetRow) -> str:
    """SVG, empty if fewer than one candidate has both numbers."""
    cost, quality = cost_metric(target), quality_metric(target)
    if cost is None or quality is None:
        return ""
    scale = 100.0 if quality in SHARES else 1.0
    points = [point for row in target.candidates if (point := _point(row, cost, quality, scale))]
    if not points:
        return ""
    limits = _quality_limits(target, quality, scale)
    most = _cost_limit(target, cost)
    xs = [v for p in points for v in (p.x, *(p.x_interval or ()))] + ([most] if most else [])
    ys = [v for p in points for v in (p.y, *(p.y_interval or ()))] + [value for value, _ in limits]
    frame = Frame.over(WIDTH, HEIGHT, (min(0.0, *xs), max(xs)), (min(ys), max(ys)))
    unit = "%" if quality in SHARES else ""
    names = f"{metric_name(cost)} ({'MB' if cost.endswith('_mb') else 'ms'}), less is better"
    parts = [frame.axes(names, f"{metric_name(quality)}{f' ({unit})' if unit else ''}, search set", 8)]
    parts += [_limit_line(frame, value, text) for value, text in limits]
    parts += [_cost_line(frame, most, cost)] if most else []
    index = {row.name: number for number, row in enumerate(target.candidates)}
    parts += [_mark(frame, point, index[point.row.name], cost, quality, scale) for point in points]
    parts += _names(frame, points, _taken(frame, limits, most))
    return picture(WIDTH, HEIGHT, f"{metric_name(quality)} against {metric_name(cost)} on {target.device}", *parts)


def _point(row: CandidateRow, cost: str, quality: str, scale: float) -> Point | None:
    x, y = metric_of(row, cost), metric_of(row, quality)
    if x is None or y is None:
        return None
    ends = [item.get("interval") for item in (x, y)]
    spans = [(float(e[0]), float(e[1])) if e else None for e in ends]
    tall = (spans[1][0] * scale, spans[1][1] * scale) if spans[1] else None
    return Point(row, float(x["value"]), float(y["value"]) * scale, spans[0], tall)


def _quality_limits(target: TargetRow, quality: str, scale: float) -> list[tuple[float, str]]:
    """Horizontal lines on the search set: the source (from the flips) and what a gate allows below it."""
    before = next((v for row in target.candidates if (v := _source_on_search(row)) is not None), None)
    rows = []
    if quality == "accuracy" and before is not None:
        rows.append((before * scale, "source"))
    for verdict in target.verdicts:
        limit = verdict.get("limit")
        if verdict.get("metric") != quality or not isinstance(limit, int | float):
            continue
        if not str(verdict.get("quantity", "")).startswith("loss of"):
            rows.append((limit * scale, "gate"))
        elif quality == "accuracy" and before is not None:
            rows.append(((before - limit) * scale, "source − margin"))
    return rows


def _source_on_search(row: CandidateRow) -> float | None:
    total = sum(row.flips.values())
    return (row.flips.get("both_right", 0) + row.flips.get("lost", 0)) / total if total else None


def _cost_limit(target: TargetRow, cost: str) -> float | None:
    limits = [v.get("limit") for v in target.verdicts if v.get("metric") == cost]
    return next((float(limit) for limit in limits if isinstance(limit, int | float)), None)


def _limit_line(frame: Frame, value: float, text: str) -> str:
    y = frame.y(value)
    kind = "source" if text == "source" else "limit"
    return line(frame.x.start, y, frame.x.end, y, kind) + label(frame.x.start + 4, y - 4, text, f"{kind}-name")


def _cost_line(frame: Frame, most: float, cost: str) -> str:
    x = frame.x(most)
    text = f"gate: at most {most:g} {'MB' if cost.endswith('_mb') else 'ms'}"
    near_end = x + len(text) * CHAR_WIDTH > frame.x.end
    at, anchor = (x - 5, "end") if near_end else (x + 5, "start")
    return line(x, frame.y.start, x, frame.y.end, "limit") + label(at, frame.y.start - 8, text, "limit-name", anchor)


def _mark(frame: Frame, point: Point, index: int, cost: str, quality: str, scale: float) -> str:
    x, y, colour = frame.x(point.x), frame.y(point.y), f"s{index % SERIES}"
    hollow = point.row.status not in ("chosen", "eligible")
    parts = [
        element(
            "title",
            text=f"{point.row.name} ({point.row.status}): {metric_name(cost)} {amount(cost, point.x)}, "
            f"{metric_name(quality)} {amount(quality, point.y / scale)}",
        )
    ]
    if point.x_interval:
        parts.append(line(frame.x(point.x_interval[0]), y, frame.x(point.x_interval[1]), y, f"whisker {colour}"))
    if point.y_interval:
        parts.append(line(x, frame.y(point.y_interval[0]), x, frame.y(point.y_interval[1]), f"whisker {colour}"))
    if point.row.status == "chosen":
        parts.append(element("circle", cx=x, cy=y, r=11, class_=f"ring {colour}"))
    parts.append(element("circle", cx=x, cy=y, r=6, class_=f"dot {'hollow ' if hollow else ''}{colour}"))
    return element("g", *parts)


def _taken(frame: Frame, limits: Sequence[tuple[float, str]], most: float | None) -> list[Box]:
    """Boxes of the limits' own labels, which names must not cover."""
    boxes = []
    for value, text in limits:
        y = frame.y(value)
        boxes.append((frame.x.start, y - 16, frame.x.start + len(text) * CHAR_WIDTH + 8, y + 2))
    if most is not None:
        x, wide = frame.x(most), 24 * CHAR_WIDTH
        boxes.append((x - wide, frame.y.start - 20, min(x + wide, frame.x.end), frame.y.start - 2))
    return boxes


def _names(frame: Frame, points: Sequence[Point], taken: list[Box]) -> list[str]:
    """Each candidate's name beside its point: the first of eight places that covers nothing else."""
    boxes = list(taken)
    for point in points:
        x, y = frame.x(point.x), frame.y(point.y)
        boxes.append((x - 12, y - 12, x + 12, y + 12))
        if point.y_interval:
            boxes.append((x - 2, frame.y(point.y_interval[1]), x + 2, frame.y(point.y_interval[0])))
    parts = []
    for point in sorted(points, key=lambda p: (p.row.status != "chosen", p.x)):
        text = point.row.name if len(point.row.name) <= 28 else point.row.name[:27] + "…"
        if point.row.status == "chosen":
            text += " (chosen)"
        spot = _free_spot(frame, point, len(text) * CHAR_WIDTH + 4, boxes)
        boxes.append(spot)
        weight = "point-name chosen" if point.row.status == "chosen" else "point-name"
        parts.append(label(spot[0] + 2, spot[3] - 3, text, weight))
    return parts


def _free_spot(frame: Frame, point: Point, wide: float, boxes: Sequence[Box]) -> Box:
    x, y = frame.x(point.x), frame.y(point.y)
    corners = [(x + 14, y - 7), (x - 14 - wide, y - 7)]
    for step in range(1, 9):
        shift = step * LINE_HEIGHT
        corners += [(x + 8, y - 7 - shift), (x + 8, y - 7 + shift)]
        corners += [(x - 8 - wide, y - 7 - shift), (x - 8 - wide, y - 7 + shift)]
    spots = [(left, top, left + wide, top + LINE_HEIGHT) for left, top in corners]
    inside = [s for s in spots if s[0] >= frame.x.start and s[2] <= frame.width and s[1] >= 0 and s[3] <= frame.y.start]
    return next((spot for spot in inside if not any(_overlap(spot, box) for box in boxes)), (inside or spots)[0])


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
