"""Where the names of crowded points go, so that none covers another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, hypot, pi, sin

from edgeft.report.svg import CHAR_WIDTH, Frame, label, line

LINE_HEIGHT = 14.0
NEAR = 30.0
"""Beyond this distance a thin line joins a name to its point."""
RADII = (16.0, 24.0, 34.0, 46.0, 60.0, 76.0, 94.0, 114.0, 136.0, 160.0)
ANGLES = tuple(pi * step / 8 for step in range(16))
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Anchor:
    """A point in picture units with its name. strong: in bold, and placed first."""

    x: float
    y: float
    text: str
    strong: bool = False


def place_names(frame: Frame, anchors: Sequence[Anchor], taken: Sequence[Box]) -> list[str]:
    """Texts, and lines to those that lie farther off. taken: boxes (left, top, right, bottom) to keep clear of."""
    boxes = list(taken) + [(a.x - 9, a.y - 9, a.x + 9, a.y + 9) for a in anchors]
    parts = []
    for anchor in sorted(anchors, key=lambda a: (not a.strong, a.x, a.y)):
        spot = free_spot(frame, anchor, boxes)
        boxes.append(spot)
        end = _nearest(spot, anchor)
        if hypot(end[0] - anchor.x, end[1] - anchor.y) > NEAR:
            parts.append(line(anchor.x, anchor.y, *end, "leader"))
        kind = "point-name chosen" if anchor.strong else "point-name"
        parts.append(label(spot[0] + 2, spot[3] - 3, anchor.text, kind))
    return parts


def free_spot(frame: Frame, anchor: Anchor, boxes: Sequence[Box]) -> Box:
    """The nearest place beside the point that covers nothing; where there is none, the one that covers least."""
    spots = [spot for spot in _spots(anchor) if _inside(frame, spot)]
    best, least = None, float("inf")
    for spot in spots:
        covered = sum(_shared(spot, box) for box in boxes)
        if covered == 0:
            return spot
        if covered < least:
            best, least = spot, covered
    wide = len(anchor.text) * CHAR_WIDTH + 4
    return best or (anchor.x, anchor.y - LINE_HEIGHT, anchor.x + wide, anchor.y)


def overlap(a: Box, b: Box) -> bool:
    """Two boxes share some area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _spots(anchor: Anchor) -> Iterator[Box]:
    """Boxes around the point, right and left of it first, then in growing circles."""
    wide = len(anchor.text) * CHAR_WIDTH + 4
    for radius in RADII:
        for angle in sorted(ANGLES, key=lambda a: (abs(sin(a)), -cos(a))):
            x, y = anchor.x + radius * cos(angle), anchor.y + radius * sin(angle)
            left = x if cos(angle) > 0.1 else x - wide if cos(angle) < -0.1 else x - wide / 2
            yield (left, y - LINE_HEIGHT / 2, left + wide, y + LINE_HEIGHT / 2)


def _inside(frame: Frame, spot: Box) -> bool:
    return spot[0] >= frame.x.start + 2 and spot[2] <= frame.width and spot[1] >= 16 and spot[3] <= frame.y.start - 2


def _nearest(spot: Box, anchor: Anchor) -> tuple[float, float]:
    x = min(max(anchor.x, spot[0]), spot[2])
    return x, min(max(anchor.y, spot[1] + 3), spot[3] - 3)


def _shared(a: Box, b: Box) -> float:
    if not overlap(a, b):
        return 0.0
    return (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))
