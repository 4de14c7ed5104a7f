"""`extends`: a recipe read with everything it builds on; mappings merge, lists and values are replaced."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeft.errors import RecipeError
from edgeft.recipe.catalogue import PREFIX, shipped_recipe, shipped_recipes
from edgeft.recipe.parse import read_yaml
from edgeft.recipe.problems import Problem, near
from edgeft.recipe.tree import Node

MAX_READS = 64
OWN = ("name", "description")
"""What a recipe says about itself; it is inherited only by one that changes nothing."""


@dataclass
class _Reader:
    files: list[Path] = field(default_factory=list)
    reads: int = 0

    def read(self, path: Path, label: str, chain: tuple[tuple[Path, str], ...], stated: Node | None) -> Node:
        """The tree of one file with its bases merged below it; `extends` is gone from it."""
        real = path.resolve()
        links = [*chain, (real, label)]
        if stated is not None and any(real == known for known, _ in chain):
            shown = " -> ".join(name for _, name in links)
            raise _problem(stated, f"recipes that extend each other in a circle: {shown}", "remove one `extends`")
        self.reads += 1
        if self.reads > MAX_READS:
            raise RecipeError(f"more than {MAX_READS} files are read through `extends`", where=chain[0][1])
        root = read_yaml(path, label)
        if path not in self.files:
            self.files.append(path)
        own = {key: node for key, node in root.entries.items() if key != "extends"}
        base: Node | None = None
        for node in _stated(root.entries.get("extends")):
            found, name = _locate(node)
            below = self.read(found, name, tuple(links), node)
            base = below if base is None else _merge(base, below)
        tree = replace(root, value=own)
        if base is None:
            return tree
        if set(own) - {"env"}:
            base = replace(base, value={key: node for key, node in base.entries.items() if key not in OWN})
        return _merge(base, tree)


def read_extended(ref: str | Path) -> tuple[Node, tuple[Path, ...]]:
    """Tree of a recipe with all it extends merged in, and the files read."""
    path, label = _start(ref)
    reader = _Reader()
    tree = reader.read(path, label, (), None)
    return tree, tuple(reader.files)


def show(path: Path) -> str:
    """A path as the user would write it: relative to the current folder where it lies below."""
    try:
        return str(Path(os.path.normpath(Path.cwd() / path)).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def near_names(path: Path) -> str:
    """Hint for a missing file: what lies near it."""
    folder = path.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return f"there is no folder {show(folder)} either"
    meant = near(path.name, names)
    place = "the folder" if folder.resolve() == Path.cwd() else show(folder)
    return f"did you mean '{meant}'?" if meant else f"{place} holds: {', '.join(names[:12]) or 'nothing'}"


def _start(ref: str | Path) -> tuple[Path, str]:
    text = os.fspath(ref)
    if text.startswith(PREFIX):
        return shipped_recipe(text), text
    if not text.strip():
        raise RecipeError("no recipe is named", hint="give a file, or a shipped one: `edgeft recipes list`")
    path = Path(text)
    try:
        exists, folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        exists = folder = False
    if folder:
        raise RecipeError("this is a folder; name the recipe file in it", where=text)
    if not exists:
        meant = near(text.removesuffix(".yaml"), tuple(shipped_recipes()))
        hint = f"did you mean the shipped recipe {PREFIX}{meant}?" if meant else _safe_near(path)
        raise RecipeError("no such file", where=text, hint=hint)
    return path, show(path)


def _safe_near(path: Path) -> str:
    try:
        return near_names(path)
    except ValueError:
        return ""


def _stated(node: Node | None) -> list[Node]:
    """The recipes named by `extends`, a text or a list of texts."""
    if node is None or node.value is None:
        return []
    found = node.items or [node]
    for item in found:
        if not isinstance(item.value, str) or not item.value:
            raise _problem(item, "must name a recipe", "extends: edgeft:text/base, or a path from this file")
    return found


def _locate(node: Node) -> tuple[Path, str]:
    """File and label of one base."""
    name = str(node.value)
    if name.startswith(PREFIX):
        try:
            return shipped_recipe(name), name
        except RecipeError as error:
            raise _problem(node, error.what, error.hint) from None
    path = node.folder / Path(name)
    try:
        missing = not path.is_file()
    except (OSError, ValueError):
        missing = True
    if missing:
        known = tuple(shipped_recipes())
        hint = f"write {PREFIX}{name} for the shipped one" if name in known else near_names(path)
        if path.is_dir():
            raise _problem(node, f"'{name}' is a folder; a recipe file is needed", near_names(path / "*.yaml"))
        raise _problem(node, f"no recipe file '{name}'", hint)
    return path, show(path)


def _problem(node: Node, what: str, hint: str) -> RecipeError:
    return Problem(node.mark, ("extends",), what, hint).error()


def _merge(base: Node, over: Node) -> Node:
    """`over` on top of `base`; only mappings are merged. The place of a merged mapping is the upper one's."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    entries = dict(base.entries)
    for key, node in over.entries.items():
        if key == "env" and key in entries and entries[key].items and node.items:
            entries[key] = replace(node, value=[*entries[key].items, *node.items])
        else:
            entries[key] = _merge(entries[key], node) if key in entries else node
    return replace(over, value=entries)
