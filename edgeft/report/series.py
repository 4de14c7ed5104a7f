"""Colour, marker and dash of a runtime: the same in every picture and table of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import cos, pi, sin

from edgeft.record import CandidateRow
from edgeft.report.svg import element
from edgeft.report.words import runtime_name

KNOWN = ("onnxruntime", "litert", "openvino", "executorch", "ncnn", "coreml")
OTHER = len(KNOWN)
"""Series of a runtime that is not edgeft's own: grey, a cross."""
DASHES = ("", "7 3", "2 3", "10 3 2 3", "4 2", "1 2", "12 4", "6 2 2 2 2 2")
"""Line patterns of the candidates within one runtime, in order."""
CORNERS: dict[int, tuple[int, float]] = {1: (4, pi / 4), 2: (3, -pi / 2), 3: (4, 0.0), 4: (3, pi / 2), 5: (6, 0.0)}
"""Series -> (corners, angle of the first); series 0 is a circle."""
GROWN = {1: 1.12, 2: 1.3, 3: 1.2, 4: 1.3, 5: 1.05}
"""Factors that give every shape about the circle's area."""


def series_of(runtime: str) -> int:
    """0 to 5 for edgeft's runtimes, 6 for others; the stylesheet's .s0 to .s6."""
    return KNOWN.index(runtime) if runtime in KNOWN else OTHER


def runtime_keys(rows: Iterable[CandidateRow]) -> list[tuple[int, str]]:
    """(series, name) of every runtime among these candidates, for the legend."""
    found = {row.runtime: series_of(row.runtime) for row in rows}
    return [(index, runtime_name(name)) for name, index in sorted(found.items(), key=lambda item: (item[1], item[0]))]


def dash_of(row: CandidateRow, rows: Sequence[CandidateRow]) -> str:
    """Line pattern of a candidate: its place among those of its runtime."""
    same = [other.name for other in rows if other.runtime == row.runtime]
    return DASHES[same.index(row.name) % len(DASHES)] if row.name in same else ""


def marker(x: float, y: float, series: int, size: float = 6.0, kind: str = "") -> str:
    """A runtime's shape at a point. kind: more classes, such as `hollow`."""
    names = f"dot {kind} s{series}".replace("  ", " ")
    if series == 0:
        return element("circle", cx=x, cy=y, r=size, class_=names)
    if series == OTHER:
        arm = size * 0.8
        ends = ((x - arm, y - arm, x + arm, y + arm), (x - arm, y + arm, x + arm, y - arm))
        return element("path", d="".join(f"M{a:.2f} {b:.2f}L{c:.2f} {d:.2f}" for a, b, c, d in ends), class_=names)
    corners, turn = CORNERS[series]
    reach = size * GROWN[series]
    angles = [turn + 2 * pi * index / corners for index in range(corners)]
    points = [f"{x + reach * cos(angle):.2f} {y + reach * sin(angle):.2f}" for angle in angles]
    return element("path", d=f"M{'L'.join(points)}Z", class_=names)
