"""How latency is distributed: every candidate's runs as one curve of the empirical distribution function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import NormalDist
from typing import Any

from edgeft.record import CandidateRow, TargetRow
from edgeft.report.figures import metric_of
from edgeft.report.places import Box, overlap
from edgeft.report.series import dash_of, marker, series_of
from edgeft.report.svg import Frame, element, label, line, picture, spans_decades
from edgeft.report.validity import timing_faults
from edgeft.report.words import significant

WIDTH, HEIGHT = 960.0, 400.0
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
TICKS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
LOWEST = 0.01
MOST_POINTS = 220
"""Corners of a curve: more than the picture has room for are thinned evenly in height."""
TAIL = 0.995
"""Share of the runs the x axis spans; what lies beyond is said in the table as the slowest run."""


@dataclass(frozen=True)
class Curve:
    """One candidate's runs in order of time, with its number in the table below."""

    number: int
    row: CandidateRow
    runs: Sequence[float]


def curves_of(rows: Sequence[CandidateRow]) -> list[Curve]:
    """Candidates with at least two finite runs, fastest median first, numbered from 1."""
    found = []
    for row in rows:
        runs = sorted(value for value in (row.latency.samples_ms if row.latency else []) if isfinite(value))
        if len(runs) > 1:
            found.append((row, runs))
    found.sort(key=lambda item: (quantile(item[1], 0.5), item[0].name))
    return [Curve(number, row, runs) for number, (row, runs) in enumerate(found, start=1)]


def plot_ecdf(target: TargetRow, curves: Sequence[Curve]) -> str:
    """Cumulative share of runs over milliseconds, heights by the normal quantile so that p99 can be read as well as
    p50 (a normal distribution is a straight line). Empty without curves."""
    if not curves:
        return ""
    top = 1 - 0.5 / max(len(curve.runs) for curve in curves)
    top = min(max(top, 0.992), 0.9993)
    low = min(quantile(curve.runs, LOWEST) for curve in curves)
    high = max(max(quantile(curve.runs, TAIL), quantile(curve.runs, 0.99)) for curve in curves)
    gates = [(name, value) for name, value in _gate_limits(target.verdicts) if value <= 3 * high]
    ends = [low, high, *(value for _, value in gates)]
    log_x = spans_decades(ends)
    frame = Frame.over(
        WIDTH, HEIGHT, (min(ends), max(ends)), (_height(LOWEST), _height(top)), pad=0.03, log_x=log_x, left=58
    )
    marks = {share for _, share in QUANTILES}
    ticks = [(_height(p), f"p{p * 100:g}" if p in marks else f"{p * 100:g}%") for p in TICKS if p <= top]
    parts = [frame.axes("ms per call, less is better", "share of runs that took at most this long", 8, ticks)]
    parts += _gate_lines(frame, gates)
    parts += [_draw(frame, curve, dash_of(curve.row, target.candidates), top) for curve in curves]
    parts += _numbers(frame, curves) if len(curves) > 1 else []
    title = f"Latency on {target.device}: distribution of single runs of {len(curves)} candidates"
    said = "; ".join(f"{c.row.name}: median {significant(quantile(c.runs, 0.5))} ms" for c in curves)
    return picture(WIDTH, HEIGHT, title, *parts, said=f"Fastest first. {said}.")


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between order statistics (type 7 of Hyndman & Fan 1996, numpy's default)."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _height(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _draw(frame: Frame, curve: Curve, dash: str, top: float) -> str:
    series, n = series_of(curve.row.runtime), len(curve.runs)
    shares = [(i + 0.5) / n for i in range(n)]
    points: list[tuple[float, float]] = []
    last = -1e9
    step = (_height(top) - _height(LOWEST)) / MOST_POINTS
    for value, share in zip(curve.runs, shares, strict=True):
        height = _height(share)
        if not LOWEST <= share <= top or height - last < step:
            continue
        last = height
        x = frame.x(value)
        if x > frame.x.end:
            break
        points.append((x, frame.y(height)))
    name = f"{curve.number}. {curve.row.name}: " + ", ".join(
        f"{text} {significant(quantile(curve.runs, share))} ms" for text, share in QUANTILES
    )
    faults = timing_faults(curve.row)
    kind = "curve chosen" if curve.row.status == "chosen" else "curve"
    drawn = [element("title", text=name + (f" (INVALID: {'; '.join(faults)})" if faults else ""))]
    drawn.append(
        element(
            "path",
            d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points),
            fill="none",
            class_=f"{kind}{' faded' if faults else ''} s{series}",
            stroke_dasharray=dash or None,
        )
        if points
        else ""
    )
    for _, share in QUANTILES:
        x = frame.x(quantile(curve.runs, share))
        if share <= top and x <= frame.x.end:
            drawn.append(marker(x, frame.y(_height(share)), series, 3.6, "invalid" if faults else ""))
    return element("g", *drawn)


def _numbers(frame: Frame, curves: Sequence[Curve]) -> list[str]:
    """Each curve's number at its lower end, raised where it would cover another."""
    parts, boxes = [], list[Box]()
    for curve in curves:
        text = str(curve.number)
        wide = 7.0 * len(text) + 6
        for share in (0.02, 0.06, 0.15, 0.32, 0.68, 0.82, 0.95):
            x, y = frame.x(quantile(curve.runs, share)), frame.y(_height(share))
            box = (x - wide / 2, y - 7.5, x + wide / 2, y + 7.5)
            if not any(overlap(box, other) for other in boxes):
                break
        boxes.append(box)
        strong = " chosen" if curve.row.status == "chosen" else ""
        series = series_of(curve.row.runtime)
        parts.append(
            element("rect", x=box[0], y=box[1], width=wide, height=15, rx=3, class_=f"badge{strong} s{series}")
        )
        parts.append(label(x, y + 4, text, f"badge-name{strong}", "middle"))
    return parts


def _gate_limits(verdicts: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    found = []
    for verdict in verdicts:
        name, limit = str(verdict.get("metric", "")), verdict.get("limit")
        if name.startswith("latency_p") and isinstance(limit, int | float) and isfinite(limit) and limit > 0:
            found.append((name.removeprefix("latency_").removesuffix("_ms"), float(limit)))
    return found


def _gate_lines(frame: Frame, gates: Sequence[tuple[str, float]]) -> list[str]:
    parts = []
    for index, (name, limit) in enumerate(gates):
        x, text = frame.x(limit), f"gate: {name} at most {limit:g} ms"
        left = x > (frame.x.start + frame.x.end) / 2
        parts.append(line(x, frame.y.start, x, frame.y.end, "limit"))
        y = frame.y.end + 10 + 14 * index
        parts.append(label(x + (-5 if left else 5), y, text, "limit-name", "end" if left else "start"))
    return parts


def slowest_ms(row: CandidateRow) -> float | None:
    """The longest of the recorded runs."""
    runs = [value for value in (row.latency.samples_ms if row.latency else []) if isfinite(value)]
    return max(runs) if runs else None


def percentile_text(row: CandidateRow, name: str, share: float, curve: Curve | None) -> tuple[str, Any]:
    """(value with unit, interval) of p50, p90 or p99: as measured, else from the recorded runs."""
    item = metric_of(row, f"latency_{name}_ms")
    if item is not None:
        return f"{significant(float(item['value']))} ms", item.get("interval")
    return (f"{significant(quantile(curve.runs, share))} ms", None) if curve else ("", None)
