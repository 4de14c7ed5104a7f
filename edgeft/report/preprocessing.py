"""Preprocessing computed twice, and, where the two differ, the worst case as both sides see it."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.record import ImagePairRow, PreprocessRow
from edgeft.report.sections import Block, Plot, caption, figures, grid, safe, text
from edgeft.report.svg import element, label, picture
from edgeft.report.tables import Cell, status_cell, table
from edgeft.report.words import count_text, significant

GAP, TOP = 8.0, 20.0
LEAST = 160.0
"""Units of width a picture gets at least, so that its title fits."""


def preprocessing_blocks(rows: Sequence[PreprocessRow]) -> list[Block]:
    """Nothing for a recipe without checks."""
    if not rows:
        return []
    lines: list[list[Cell | str]] = [
        [
            row.against, row.how, f"{count_text(row.cases, 'case')} of the {row.origin}",
            f"{significant(row.difference)} {row.unit}", significant(row.tolerance),
            status_cell("PASS" if row.passed else "FAIL"),
        ]
        for row in rows
    ]  # fmt: skip
    words = "What training sees of a file, against what a target's own numpy, or your own function, makes of it."
    plots = [
        Plot(
            safe(plot_pair(row.pair, row.against)), f"{row.against}: {row.pair.case}", f"of all {row.cases}, the worst"
        )
        for row in rows
        if row.pair is not None
    ]
    heads = ["Computed again by", "How", "On", "Largest difference", "Allowed", "Verdict"]
    return [
        *text(words), *grid(table(heads, lines, (3, 4), stack=True)), *figures(plots),
        *(caption("The difference is enlarged 8 times in value; black: equal.") if plots else []),
    ]  # fmt: skip


def plot_pair(pair: ImagePairRow, against: str) -> str:
    """Both images and their difference side by side."""
    height, width = pair.size
    scale = max(1.0, LEAST / width)
    across, down = width * scale, height * scale
    named = (("training", pair.ours), (against, pair.theirs), ("difference x 8", pair.difference))
    parts = []
    for index, (name, data) in enumerate(named):
        x = index * (across + GAP)
        parts.append(label(x, 13, name if len(name) <= 24 else f"{name[:23]}…", "name"))
        address = f"data:image/png;base64,{data}"
        parts.append(element("image", x=x, y=TOP, width=across, height=down, href=address, class_="pixels"))
    said = f"Training's image, that of {against}, and their difference enlarged 8 times."
    return picture(3 * across + 2 * GAP, TOP + down, f"case {pair.case}", *parts, class_="plot small", said=said)
