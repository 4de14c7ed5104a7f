"""A recipe before it is typed: plain values that know the file, line and column they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

RecipePath: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, eq=False)
class Source:
    """A text that recipes are read from. label: as errors show it. folder: relative paths start there.

    lines: empty for what has no lines of its own, such as `--set`. Compared by identity.
    """

    label: str
    folder: Path
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A place in a source; line and column count from 1."""

    source: Source
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        if not self.source.lines:
            return self.source.label
        return f"{self.source.label}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Node:
    """A value, a list of nodes or a mapping of nodes, with its place.

    key: place of the mapping key that leads here. quoted: a scalar that is text by its quotes.
    base: folder that a relative path in this scalar starts from; None: the folder of its source.
    """

    value: Scalar | list[Node] | dict[str, Node]
    mark: Mark
    key: Mark | None = None
    quoted: bool = False
    base: Path | None = None

    @property
    def entries(self) -> dict[str, Node]:
        """The mapping's entries; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The list's items; empty for anything else."""
        return self.value if isinstance(self.value, list) else []

    @property
    def folder(self) -> Path:
        """Where a relative path in this scalar starts."""
        return self.base or self.mark.source.folder

    def child(self, step: str | int) -> Node | None:
        """The entry or item, None where there is none."""
        if isinstance(step, str):
            return self.entries.get(step)
        return self.items[step] if 0 <= step < len(self.items) else None


def plain(node: Node) -> Any:
    """The value without places."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def find(node: Node, path: RecipePath) -> tuple[RecipePath, Node]:
    """The deepest node on the path that exists, and the part of the path that leads to it."""
    done: RecipePath = ()
    for step in path:
        below = node.child(step)
        if below is None:
            break
        node, done = below, (*done, step)
    return done, node


def put(node: Node, path: RecipePath, new: Node) -> Node:
    """The tree with `new` at the path; mappings that are missing on the way are made at `new`'s place."""
    if not path:
        return replace(new, key=new.key or node.key)
    step, rest = path[0], path[1:]
    below = node.child(step) or Node({}, new.mark, new.mark)
    if isinstance(step, int):
        return replace(node, value=[*node.items[:step], put(below, rest, new), *node.items[step + 1 :]])
    return replace(node, value={**node.entries, step: put(below, rest, new)})


def scalars(node: Node, path: RecipePath = ()) -> Iterator[tuple[RecipePath, Node]]:
    """Every scalar below with its path, in order."""
    steps: Mapping[Any, Node] = node.entries or dict(enumerate(node.items))
    if isinstance(node.value, (dict, list)):
        for step, child in steps.items():
            yield from scalars(child, (*path, step))
    else:
        yield path, node


def dotted(path: RecipePath) -> str:
    """`steps[0].prune.ratio`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
