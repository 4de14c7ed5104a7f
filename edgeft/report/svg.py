"""SVG by hand: escaped elements, nice ticks, linear and logarithmic scales, axes. Colours come from the stylesheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import exp, floor, isfinite, log, log10

CHAR_WIDTH = 6.4
"""Average width of a character of the plots' 12-unit text, for placing labels without measuring them."""
SERIES = 6
"""Series colours in the stylesheet, .s0 to .s5: Okabe & Ito's palette for colour-blind readers; .s6 is grey."""
MOST_TICKS = 11
"""Numbers below a logarithmic axis."""
WIDE_RANGE = 6.0
"""Largest over smallest value from which an axis of costs is logarithmic: below it, distances read better linearly."""


def element(name: str, *children: str, text: str = "", **attributes: object) -> str:
    """One element. children are markup; text and attribute values are escaped. class_ -> class, x_y -> x-y."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{escape(text)}{''.join(children)}</{name}>"


def picture(width: float, height: float, title: str, *children: str, class_: str = "plot", said: str = "") -> str:
    """A whole SVG with an accessible name. said: what it shows, for those who do not see it."""
    described = [element("desc", text=said)] if said else []
    return element(
        "svg", element("title", text=title), *described, *children, viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        role="img", class_=class_, xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def label(x: float, y: float, text: str, class_: str = "", anchor: str = "start", **more: object) -> str:
    """Text at a point."""
    return element("text", text=text, x=x, y=y, class_=class_ or None, text_anchor=anchor, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, title: str = "") -> str:
    """A straight line."""
    inner = [element("title", text=title)] if title else []
    return element("line", *inner, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    """An open polyline."""
    text = "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return element("path", d=text, class_=class_, fill="none")


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers within [low, high]; steps of 1, 2 or 5 (Heckbert 1990, Graphics Gems I)."""
    if not (isfinite(low) and isfinite(high)) or high - low < 1e-290:
        return [low]
    raw = (high - low) / max(1, count)
    size = 10.0 ** floor(log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * 0.999)
    first = -floor(-low / step + 1e-9)
    return [round(index * step, 12) for index in range(first, floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round factors of powers of ten within [low, high]: as many a decade as the range has room for."""
    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= MOST_TICKS:
            return found if len(found) > 1 else nice_ticks(low, high)
    return found[:: len(found) // MOST_TICKS + 1]


def spans_decades(values: Sequence[float]) -> bool:
    """True where a logarithmic axis serves these values better: all positive, and far apart."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= WIDE_RANGE


def tick_text(ticks: Sequence[float]) -> Callable[[float], str]:
    """A formatter with as many decimals as the ticks' step needs."""
    step = min((b - a for a, b in pairwise(ticks)), default=abs(ticks[0]) or 1.0)
    if 0 < step < 1e-3:
        return lambda value: f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"
    places = max(0, -floor(log10(step) + 1e-9)) if step > 0 else 0
    return lambda value: f"{value:,.{places}f}"


@dataclass(frozen=True)
class Scale:
    """Map from [low, high] to [start, end] in picture units; log: by ratio, with 0 < low."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Picture unit of a value, not clipped."""
        if self.log:
            share = log(max(value, self.low * 1e-3) / self.low) / log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Round values in the range with their texts."""
        if self.log:
            return [(value, f"{value:,g}") for value in log_ticks(self.low, self.high)]
        found = nice_ticks(self.low, self.high, count)
        text = tick_text(found)
        return [(value, text(value)) for value in found]


@dataclass(frozen=True)
class Frame:
    """The plot area of a picture with its two scales."""

    width: float
    height: float
    x: Scale
    y: Scale

    @staticmethod
    def over(
        width: float,
        height: float,
        xs: tuple[float, float],
        ys: tuple[float, float],
        left: float = 52,
        pad: float = 0.06,
        log_x: bool = False,
        right: float = 14,
    ) -> Frame:
        """A frame over these ranges, padded by a share of them; an empty range is opened."""
        x0, x1 = _opened((log(xs[0]), log(xs[1])), pad) if log_x else _opened(xs, pad)
        y0, y1 = _opened(ys, pad)
        ends = (exp(x0), exp(x1)) if log_x else (x0, x1)
        return Frame(width, height, Scale(*ends, left, width - right, log_x), Scale(y0, y1, height - 40, 26))

    def axes(self, x_name: str, y_name: str, count: int = 6, y_ticks: Sequence[tuple[float, str]] | None = None) -> str:
        """Grid lines, tick labels and axis names; the y name lies above the axis so that nobody tilts the head."""
        parts = []
        for value, text in self.y.ticks(5) if y_ticks is None else y_ticks:
            y = self.y(value)
            parts.append(line(self.x.start, y, self.x.end, y, "grid"))
            parts.append(label(self.x.start - 7, y + 4, text, "tick", "end"))
        for value, text in self.x.ticks(count):
            x = self.x(value)
            parts.append(line(x, self.y.start, x, self.y.start + 4, "axis"))
            parts.append(label(x, self.y.start + 17, text, "tick", "middle"))
        parts.append(line(self.x.start, self.y.start, self.x.end, self.y.start, "axis"))
        parts.append(label((self.x.start + self.x.end) / 2, self.height - 6, x_name, "name", "middle"))
        if y_name:
            parts.append(label(4, 11, y_name, "name"))
        return "".join(parts)


def _opened(ends: tuple[float, float], pad: float) -> tuple[float, float]:
    low, high = ends
    room = (high - low) * pad if high > low else (abs(low) * 0.1 or 1.0)
    return low - room, high + room


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
