"""Small plots: how training went, where a verdict's interval lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from edgeft.metric_names import is_share
from edgeft.record import CurvePoint, TrainingRow
from edgeft.report.svg import Frame, element, label, line, path, picture
from edgeft.report.words import metric_name

WIDTH, HEIGHT = 340.0, 210.0


def training_plots(row: TrainingRow) -> list[str]:
    """Loss, validation metric and learning rate over steps; those that were logged."""
    metric, share = f"Validation {metric_name(row.metric).lower()}", is_share(row.metric)
    plots = [
        _curves("Loss", row.curve, [("training", "loss"), ("validation", "eval_loss")]),
        _curves(metric, row.curve, [("", "eval_metric")], best=row.best_step, share=share),
        _curves("Learning rate", row.curve, [("", "learning_rate")]),
    ]
    return [plot for plot in plots if plot]


def plot_verdict(verdict: Mapping[str, Any]) -> str:
    """The verdict's interval against its limit, as a strip; empty where there is no interval."""
    interval, limit, value = verdict.get("interval"), verdict.get("limit"), verdict.get("value")
    numbers = [*(interval or []), limit, value]
    if not interval or not all(isinstance(x, int | float) and isfinite(x) for x in numbers):
        return ""
    low, high, limit, value = (float(x) for x in (*interval, limit, value))
    anchor = [0.0] if str(verdict.get("quantity", "")).startswith("loss of") or limit > 1 else []
    frame = Frame.over(170, 74, (min(low, limit, *anchor), max(high, limit)), (0, 1), left=8, pad=0.08)
    upper = not _at_least(verdict)
    start, end = (frame.x.start, frame.x(limit)) if upper else (frame.x(limit), frame.x.end)
    status = str(verdict.get("status", "")).lower()
    parts = [
        element("rect", x=start, y=4, width=max(0.0, end - start), height=18, class_="allowed"),
        line(frame.x.start, 13, frame.x.end, 13, "grid"),
        line(frame.x(limit), 2, frame.x(limit), 24, "limit"),
        line(frame.x(low), 13, frame.x(high), 13, f"interval {status}"),
        element("circle", cx=frame.x(value), cy=13, r=4.5, class_=f"estimate {status}"),
    ]
    title = f"{verdict.get('quantity', '')}: {value:.4g}, interval {low:.4g} to {high:.4g}, limit {limit:.4g}"
    return picture(170, 26, title, *parts, class_="strip")


def _at_least(verdict: Mapping[str, Any]) -> bool:
    return " at least " in str(verdict.get("gate", ""))


def _curves(
    name: str,
    curve: Sequence[CurvePoint],
    series: Sequence[tuple[str, str]],
    best: int | None = None,
    share: bool = False,
) -> str:
    scale = 100.0 if share else 1.0
    drawn = []
    for title, field in series:
        values = [(float(p.step), getattr(p, field)) for p in curve]
        points = [(x, float(v) * scale) for x, v in values if v is not None and isfinite(v)]
        if len(points) > 1:
            drawn.append((title, points))
    if not drawn:
        return ""
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    frame = Frame.over(WIDTH, HEIGHT, (min(0.0, *xs), max(xs)), (min(ys), max(ys)), left=46, pad=0.03)
    parts = [frame.axes("step", f"{name}{' (%)' if share else ''}", 5)]
    for index, (title, points) in enumerate(drawn):
        placed = [(frame.x(x), frame.y(y)) for x, y in points]
        parts.append(path(placed, f"curve s{index}"))
        if len(placed) <= 24:
            parts += [element("circle", cx=x, cy=y, r=3, class_=f"dot s{index}") for x, y in placed]
        if title:
            parts.append(_legend(frame, index, title))
    for x, y in drawn[0][1] if best is not None else []:
        if x == best:
            parts.append(element("circle", cx=frame.x(x), cy=frame.y(y), r=8, class_="ring s0"))
            parts.append(
                label(frame.x(x) - 12, frame.y(y) + 18, f"best {y:.1f}" if share else f"best {y:.3g}", "tick", "end")
            )
    return picture(WIDTH, HEIGHT, f"{name} over training steps", *parts, class_="plot small")


def _legend(frame: Frame, index: int, title: str) -> str:
    y = frame.y.end + 12 + 16 * index
    return line(frame.x.end - 92, y, frame.x.end - 74, y, f"curve s{index}") + label(
        frame.x.end - 69, y + 4, title, "tick"
    )
