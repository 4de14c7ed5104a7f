"""Quality against cost of every candidate in every runtime: the front, intervals both ways, what the gates ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeft.metric_names import is_share
from edgeft.record import CandidateRow, TargetRow
from edgeft.report.figures import metric_of
from edgeft.report.limits import Limits, cost_metric, draw_limits, find_limits, quality_metric, unit_of
from edgeft.report.places import Anchor, Box, place_names
from edgeft.report.series import marker, series_of
from edgeft.report.svg import Frame, element, line, path, picture, spans_decades
from edgeft.report.validity import timing_faults
from edgeft.report.words import amount, metric_name

WIDTH, HEIGHT = 960.0, 480.0
FAR_BELOW = 10.0
"""Points of a percentage below the lowest limit at which a candidate is drawn at the edge: it would squeeze all."""
LONGEST_NAME = 34


@dataclass(frozen=True)
class Point:
    """A candidate in data units; intervals are (low, high) or None. below: too far off to be drawn in place."""

    row: CandidateRow
    x: float
    y: float
    x_interval: tuple[float, float] | None
    y_interval: tuple[float, float] | None
    below: bool = False

    @property
    def trusted(self) -> bool:
        """False where the times are INVALID."""
        return not timing_faults(self.row)


def plot_front(target: TargetRow) -> str:
    """SVG, empty if no candidate has both numbers."""
    cost, quality = cost_metric(target), quality_metric(target)
    if cost is None or quality is None:
        return ""
    scale = 100.0 if is_share(quality) else 1.0
    points = [point for row in target.candidates if (point := _point(row, cost, quality, scale))]
    if not points:
        return ""
    limits = find_limits(target, cost, quality, scale)
    points = _set_apart(points, limits, quality)
    frame = _frame(points, limits)
    name = f"{metric_name(quality)}{' (%)' if is_share(quality) else ''}, search set"
    parts = [frame.axes(f"{metric_name(cost)} ({unit_of(cost)}), less is better", name, 8)]
    drawn, taken = draw_limits(frame, limits, cost, [(frame.x(p.x), _height(frame, p)) for p in points])
    parts += drawn
    parts += _front_line(frame, front_of(points))
    parts += [_mark(frame, point, cost, quality, scale) for point in points]
    parts += place_names(
        frame, [_anchor(frame, point, scale, quality) for point in points], [*taken, *_bars(frame, points)]
    )
    front = [f"{p.row.name} ({amount(cost, p.x)}, {amount(quality, p.y / scale)})" for p in front_of(points)]
    title = f"{metric_name(quality)} against {metric_name(cost)} on {target.device}"
    return picture(WIDTH, HEIGHT, title, *parts, said=f"On the front: {', '.join(front)}." if front else "")


def front_of(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in both respects, cheapest first; INVALID ones are left out."""
    found: list[Point] = []
    for point in sorted((p for p in points if p.trusted), key=lambda p: (p.x, -p.y)):
        if not found or point.y > found[-1].y:
            found.append(point)
    return found


def _point(row: CandidateRow, cost: str, quality: str, scale: float) -> Point | None:
    x, y = metric_of(row, cost), metric_of(row, quality)
    if x is None or y is None:
        return None
    ends = [item.get("interval") for item in (x, y)]
    spans = [(float(e[0]), float(e[1])) if e else None for e in ends]
    tall = (spans[1][0] * scale, spans[1][1] * scale) if spans[1] else None
    return Point(row, float(x["value"]), float(y["value"]) * scale, spans[0], tall)


def _set_apart(points: Sequence[Point], limits: Limits, quality: str) -> list[Point]:
    """Marks what lies far below everything that matters; only for percentages, whose scale is known."""
    best = max(point.y for point in points)
    floor = min([best, *(value for value, _ in limits.quality)]) - FAR_BELOW
    if not is_share(quality):
        return list(points)
    return [Point(p.row, p.x, p.y, p.x_interval, None, True) if p.y < floor else p for p in points]


def _frame(points: Sequence[Point], limits: Limits) -> Frame:
    most = [limits.cost] if limits.cost is not None else []
    xs = [value for p in points for value in (p.x, *(p.x_interval or ()))] + most
    ys = [value for p in points if not p.below for value in (p.y, *(p.y_interval or ()))]
    ys += [value for value, _ in limits.quality]
    log_x = spans_decades(xs)
    low = min(xs) if log_x else min(0.0, *xs)
    if any(p.below for p in points):
        ys.append(min(ys) - 0.12 * (max(ys) - min(ys)))
    return Frame.over(WIDTH, HEIGHT, (low, max(xs)), (min(ys), max(ys)), log_x=log_x)


def _height(frame: Frame, point: Point) -> float:
    return frame.y.start - 14 if point.below else frame.y(point.y)


def _mark(frame: Frame, point: Point, cost: str, quality: str, scale: float) -> str:
    x, y, series = frame.x(point.x), _height(frame, point), series_of(point.row.runtime)
    faults = timing_faults(point.row)
    said = f" (INVALID: {'; '.join(faults)})" if faults else ""
    title = (
        f"{point.row.name} ({point.row.status}): {metric_name(cost)} {amount(cost, point.x)}{said}, "
        f"{metric_name(quality)} {amount(quality, point.y / scale)}"
    )
    parts = [element("title", text=title)]
    if point.x_interval:
        parts.append(line(frame.x(point.x_interval[0]), y, frame.x(point.x_interval[1]), y, f"whisker s{series}"))
    if point.y_interval:
        low, high = (frame.y(end) for end in point.y_interval)
        parts.append(line(x, low, x, high, f"whisker s{series}"))
    if point.row.status == "chosen":
        parts.append(element("circle", cx=x, cy=y, r=11.5, class_="chosen-ring"))
    kind = "invalid" if faults else "" if point.row.status in ("chosen", "eligible") else "hollow"
    parts.append(marker(x, y, series, kind=kind))
    return element("g", *parts)


def _anchor(frame: Frame, point: Point, scale: float, quality: str) -> Anchor:
    text = point.row.name if len(point.row.name) <= LONGEST_NAME else point.row.name[: LONGEST_NAME - 1] + "…"
    chosen = point.row.status == "chosen"
    more = [" (chosen)"] if chosen else []
    more += [" INVALID"] if not point.trusted else []
    more += [f" {amount(quality, point.y / scale)} ↓"] if point.below else []
    return Anchor(frame.x(point.x), _height(frame, point), text + "".join(more), chosen)


def _bars(frame: Frame, points: Sequence[Point]) -> list[Box]:
    """Where the intervals are: names keep clear of the middle of each, where it is read."""
    boxes = []
    for point in points:
        if point.y_interval:
            x, tops = frame.x(point.x), [frame.y(end) for end in point.y_interval]
            boxes.append((x - 1.5, min(tops), x + 1.5, max(tops)))
    return boxes


def _front_line(frame: Frame, front: Sequence[Point]) -> list[str]:
    """Steps: at a cost between two points, the better one is not yet to be had."""
    corners: list[tuple[float, float]] = []
    for point in front:
        x, y = frame.x(point.x), _height(frame, point)
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return [path(corners, "front")] if len(front) > 1 else []
