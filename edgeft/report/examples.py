"""Cases of a segmentation as pictures in the page itself: no file beside it, no script."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.record import BORDER_COLOURS, CHANGED_COLOUR, MASK_COLOURS, ExampleRow, TargetRow
from edgeft.report.sections import Block, Plot, caption, figures, safe
from edgeft.report.svg import element, label, picture
from edgeft.report.words import significant

GAP, TOP, KEY = 8.0, 20.0, 22.0
COLUMNS = 3
BORDERS = ("truth's border", "answer's border", "both")
LEAST = 96.0
"""Units of width a picture gets at least, so that its title fits."""


def example_blocks(target: TargetRow, labels: Sequence[str]) -> list[Block]:
    """Worst, median and best case of the search set; nothing for tasks without pictures."""
    if not target.examples:
        return []
    plots = [Plot(safe(plot_example(row, labels)), f"{row.rank}: {row.case}", _said(row)) for row in target.examples]
    words = f"The chosen artefact, {target.chosen}, on the search set; cases are ranked by their mean Dice."
    if any(row.changes for row in target.examples):
        words += " Changed: pixels that it gives another class than the source, the float model before compression."
    if any(row.shift for row in target.examples):
        words += " Logits: how far they moved from those of its float export; brighter is further."
    return [*figures(plots), *caption(words)]


def plot_example(row: ExampleRow, labels: Sequence[str]) -> str:
    """Image, truth and answer side by side, below them borders and what compression changed, then the colours."""
    height, width = row.size
    scale = max(1.0, LEAST / width)
    across, down = width * scale, height * scale
    pictures = [("image", row.image), ("truth", row.truth), ("answer", row.answer)]
    pictures += [("borders", row.borders), ("changed", row.changes), ("logits", row.shift)]
    shown = [(name, data) for name, data in pictures if data]
    parts, step = [], TOP + down + GAP
    for index, (name, data) in enumerate(shown):
        x, y = index % COLUMNS * (across + GAP), index // COLUMNS * step
        parts.append(label(x, y + 13, name, "name"))
        address = f"data:image/png;base64,{data}"
        parts.append(element("image", x=x, y=y + TOP, width=across, height=down, href=address, class_="pixels"))
    whole, below = COLUMNS * across + (COLUMNS - 1) * GAP, -(-len(shown) // COLUMNS) * step
    swatches = [(name, MASK_COLOURS[index % len(MASK_COLOURS)]) for index, name in enumerate(labels)]
    swatches += list(zip(BORDERS, BORDER_COLOURS, strict=True)) if row.borders else []
    swatches += [("changed", CHANGED_COLOUR)] if row.changes else []
    keys, lines = _keys(swatches, below + 14, whole)
    said = f"{', '.join(name for name, _ in shown).capitalize()}; {_said(row)}."
    return picture(
        whole, below + KEY * lines, f"{row.rank} case {row.case}", *parts, *keys, class_="plot small", said=said
    )


def _said(row: ExampleRow) -> str:
    parts = [f"mean Dice {significant(row.value)}"]
    parts += [f"{row.changed:.2%} of the pixels changed"] if row.changed is not None else []
    parts += [f"logits moved by up to {significant(row.most_shift)}"] if row.most_shift is not None else []
    return ", ".join(parts)


def _keys(swatches: Sequence[tuple[str, str]], y: float, width: float) -> tuple[list[str], int]:
    """(swatch and name of every (name, colour), lines they take)."""
    parts, x, lines = [], 0.0, 1
    for name, colour in swatches:
        shown = name if len(name) <= 18 else f"{name[:17]}…"
        needed = 22 + 7 * len(shown)
        if x and x + needed > width:
            x, lines = 0.0, lines + 1
        at = y + KEY * (lines - 1)
        parts.append(element("rect", x=x, y=at - 9, width=10, height=10, fill=colour, stroke="#888"))
        parts.append(label(x + 14, at, shown, "tick"))
        x += needed
    return parts, lines
