"""A page as data: sections of blocks, which the templates lay out. Nothing here knows HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgeft.report.confusion import Matrix
from edgeft.report.tables import Table

Kind = Literal["text", "caption", "list", "tables", "figures", "wide", "keys", "more", "cards", "matrix"]


@dataclass(frozen=True)
class Plot:
    """A picture (safe markup) with a title above and a caption below."""

    picture: Any
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """One piece of a section; which fields count depends on kind.

    text, caption: text. list: texts. tables: tables side by side. figures: plots in a grid; wide: one over the whole
    width. keys: (CSS classes, text) of a legend. more: blocks folded away under text. cards: key figures.
    """

    kind: Kind
    text: str = ""
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    keys: Sequence[tuple[str, str]] = ()
    blocks: Sequence[Block] = ()
    matrix: Matrix | None = None
    cards: Sequence[Any] = ()


@dataclass(frozen=True)
class Section:
    """A heading and what follows. id: for links; title: heading and link text."""

    id: str
    title: str
    blocks: Sequence[Block]


def safe(svg: str) -> Any:
    """A picture as safe markup."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 - built by svg.py, which escapes


def text(words: str) -> list[Block]:
    """A paragraph, none for no words."""
    return [Block("text", text=words)] if words else []


def caption(words: str) -> list[Block]:
    """Small print under a picture or table, none for no words."""
    return [Block("caption", text=words)] if words else []


def grid(*tables: Table) -> list[Block]:
    """Tables that have rows, side by side where there is room."""
    found = [item for item in tables if item.rows]
    return [Block("tables", tables=found)] if found else []


def wide(svg: str) -> list[Block]:
    """A picture over the whole width, none for an empty one."""
    return [Block("wide", plots=[Plot(safe(svg))])] if svg else []


def figures(plots: Iterable[Plot], kind: str = "") -> list[Block]:
    """Small pictures in a grid. kind: more CSS classes of it."""
    found = [plot for plot in plots if plot.picture]
    return [Block("figures", text=kind, plots=found)] if found else []


def folded(words: str, blocks: Sequence[Block]) -> list[Block]:
    """Blocks behind a line to click, none without blocks."""
    return [Block("more", text=words, blocks=blocks)] if blocks else []


def keep(sections: Iterable[Section]) -> list[Section]:
    """Sections that have something to show."""
    return [section for section in sections if section.blocks]
