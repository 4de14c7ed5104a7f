"""Small plots: how latency is distributed, how training went, where a verdict's interval lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from edgeft.record import CandidateRow, CurvePoint, TrainingRow
from edgeft.report.svg import SERIES, Frame, element, label, line, path, picture
from edgeft.report.words import SHARES, metric_name, significant

WIDTH, HEIGHT = 340.0, 210.0
BINS = 48
TAIL = 0.995
"""Share of the runs the histogram's axis spans; the rest is counted in words, not left out."""
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def plot_latency(row: CandidateRow, index: int) -> str:
    """Histogram of single runs with p50, p90 and p99 marked; empty without samples."""
    runs = sorted(value for value in (row.latency.samples_ms if row.latency else []) if isfinite(value))
    if len(runs) < 2:
        return ""
    end = max(_quantile(runs, TAIL) * 1.02, _quantile(runs, 0.99) * 1.02)
    low, high = runs[0], end if end > runs[0] else runs[0] * 1.05 + 1e-9
    counts = [0] * BINS
    for value in runs:
        if value <= high:
            counts[min(BINS - 1, int((value - low) / (high - low) * BINS))] += 1
    frame = Frame.over(WIDTH, HEIGHT, (low, high), (0, max(counts) * 1.28), left=40, pad=0.0)
    parts = [frame.axes("ms per call", "runs", 5)]
    step = (frame.x.end - frame.x.start) / BINS
    for bin_, count in enumerate(counts):
        if count:
            y = frame.y(count)
            y, wide = frame.y(count), max(0.6, step - 0.6)
            x, tall = frame.x.start + bin_ * step, frame.y.start - y
            parts.append(element("rect", x=x, y=y, width=wide, height=tall, class_=f"bar s{index % SERIES}"))
    parts += _quantile_marks(frame, runs)
    beyond = sum(value > high for value in runs)
    tail = f"; {beyond} of {len(runs):,} runs beyond the axis, up to {significant(runs[-1])} ms" if beyond else ""
    return picture(WIDTH, HEIGHT, f"Latency of {row.name}: {len(runs):,} runs{tail}", *parts, class_="plot small")


def beyond_axis(row: CandidateRow) -> str:
    """The runs that the histogram's axis leaves out, in words."""
    runs = sorted(value for value in (row.latency.samples_ms if row.latency else []) if isfinite(value))
    if len(runs) < 2:
        return ""
    end = max(_quantile(runs, TAIL), _quantile(runs, 0.99)) * 1.02
    beyond = sum(value > end for value in runs)
    return f"{beyond} of {len(runs):,} runs lie beyond the axis, up to {significant(runs[-1])} ms." if beyond else ""


def training_plots(row: TrainingRow) -> list[str]:
    """Loss, validation metric and learning rate over steps; those that were logged."""
    metric, share = f"Validation {metric_name(row.metric).lower()}", row.metric in SHARES
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


def _quantile_marks(frame: Frame, runs: Sequence[float]) -> list[str]:
    parts, last = [], -1e9
    for row, (name, share) in enumerate(QUANTILES):
        value = _quantile(runs, share)
        x, y = frame.x(value), frame.y.end + 8
        y += 13 * row if x - last < 58 else 0
        last = x
        parts.append(line(x, frame.y.start, x, y - 6, "mark"))
        near_end = x + 60 > frame.x.end
        parts.append(
            label(
                x + (-4 if near_end else 4),
                y,
                f"{name} {significant(value)}",
                "tick mark-name",
                "end" if near_end else "start",
            )
        )
    return parts


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between order statistics (type 7 of Hyndman & Fan 1996, numpy's default)."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
