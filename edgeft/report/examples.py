"""Cases of a segmentation as pictures in the page itself: no file beside it, no script."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.record import MASK_COLOURS, ExampleRow, TargetRow
from edgeft.report.sections import Block, Plot, caption, figures, safe
from edgeft.report.svg import element, label, picture
from edgeft.report.words import significant

GAP, TOP, KEY = 8.0, 20.0, 22.0
LEAST = 96.0
"""Units of width a picture gets at least, so that its title fits."""


def example_blocks(target: TargetRow, labels: Sequence[str]) -> list[Block]:
    """Worst, median and best case of the search set; nothing for tasks without pictures."""
    if not target.examples:
        return []
    plots = [
        Plot(safe(plot_example(row, labels)), f"{row.rank}: {row.case}", f"mean Dice {significant(row.value)}")
        for row in target.examples
    ]
    words = f"The chosen artefact, {target.chosen}, on the search set; cases are ranked by their mean Dice."
    return [*figures(plots), *caption(words)]


def plot_example(row: ExampleRow, labels: Sequence[str]) -> str:
    """Image, truth and answer side by side, with the labels' colours below."""
    height, width = row.size
    scale = max(1.0, LEAST / width)
    across, down = width * scale, height * scale
    parts = []
    for index, (name, data) in enumerate((("image", row.image), ("truth", row.truth), ("answer", row.answer))):
        x = index * (across + GAP)
        parts.append(label(x, 13, name, "name"))
        address = f"data:image/png;base64,{data}"
        parts.append(element("image", x=x, y=TOP, width=across, height=down, href=address, class_="pixels"))
    whole = 3 * across + 2 * GAP
    keys, lines = _keys(labels, TOP + down + 14, whole)
    title = f"{row.rank} case {row.case}"
    said = f"Image, truth and answer; mean Dice {significant(row.value)}."
    return picture(whole, TOP + down + KEY * lines, title, *parts, *keys, class_="plot small", said=said)


def _keys(labels: Sequence[str], y: float, width: float) -> tuple[list[str], int]:
    """(swatch and name of every label, lines they take)."""
    parts, x, lines = [], 0.0, 1
    for index, name in enumerate(labels):
        shown = name if len(name) <= 18 else f"{name[:17]}…"
        needed = 22 + 7 * len(shown)
        if x and x + needed > width:
            x, lines = 0.0, lines + 1
        colour = MASK_COLOURS[index % len(MASK_COLOURS)]
        at = y + KEY * (lines - 1)
        parts.append(element("rect", x=x, y=at - 9, width=10, height=10, fill=colour, stroke="#888"))
        parts.append(label(x + 14, at, shown, "tick"))
        x += needed
    return parts, lines
