"""SVG by hand: escaped elements, nice ticks, linear scales and axes. Colours come from the page's stylesheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import floor, isfinite, log10

CHAR_WIDTH = 6.4
"""Average width of a character of the plots' 12-unit text, for placing labels without measuring them."""
SERIES = 6
"""Series colours in the stylesheet, .s0 to .s5: Okabe & Ito's palette for colour-blind readers."""


def element(name: str, *children: str, text: str = "", **attributes: object) -> str:
    """One element. children are markup; text and attribute values are escaped. class_ -> class, x_y -> x-y."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{escape(text)}{''.join(children)}</{name}>"


def picture(width: float, height: float, title: str, *children: str, class_: str = "plot") -> str:
    """A whole SVG with an accessible name."""
    return element(
        "svg", element("title", text=title), *children, viewBox=f"0 0 {_plain(width)} {_plain(height)}", role="img",
        class_=class_, xmlns="http://www.w3.org/2000/svg",
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
    if not (isfinite(low) and isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(1, count)
    size = 10.0 ** floor(log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * 0.999)
    first = -floor(-low / step + 1e-9)
    return [round(index * step, 12) for index in range(first, floor(high / step + 1e-9) + 1)]


def tick_text(ticks: Sequence[float]) -> Callable[[float], str]:
    """A formatter with as many decimals as the ticks' step needs."""
    step = min((b - a for a, b in pairwise(ticks)), default=abs(ticks[0]) or 1.0)
    if 0 < step < 1e-3:
        return lambda value: f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"
    places = max(0, -floor(log10(step) + 1e-9)) if step > 0 else 0
    return lambda value: f"{value:,.{places}f}"


@dataclass(frozen=True)
class Scale:
    """Linear map from [low, high] to [start, end] in picture units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Picture unit of a value, not clipped."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


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
    ) -> Frame:
        """A frame over these ranges, padded by a share of them; an empty range is opened."""
        (x0, x1), (y0, y1) = _opened(xs, pad), _opened(ys, pad)
        return Frame(width, height, Scale(x0, x1, left, width - 14), Scale(y0, y1, height - 40, 26))

    def axes(self, x_name: str, y_name: str, count: int = 6) -> str:
        """Grid lines, tick labels and axis names; the y name lies above the axis so that nobody tilts the head."""
        parts = []
        xs, ys = nice_ticks(self.x.low, self.x.high, count), nice_ticks(self.y.low, self.y.high, 5)
        x_text, y_text = tick_text(xs), tick_text(ys)
        for value in ys:
            y = self.y(value)
            parts.append(line(self.x.start, y, self.x.end, y, "grid"))
            parts.append(label(self.x.start - 7, y + 4, y_text(value), "tick", "end"))
        for value in xs:
            x = self.x(value)
            parts.append(line(x, self.y.start, x, self.y.start + 4, "axis"))
            parts.append(label(x, self.y.start + 17, x_text(value), "tick", "middle"))
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
