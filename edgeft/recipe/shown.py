"""What a report shows of a recipe: an environment variable's name in place of its value, `~` for the home folder.

The text still loads to an equal recipe, for the same user with the same environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeft.recipe.interpolate import escape, references
from edgeft.recipe.tree import Node, RecipePath, find, scalars


def shown_texts(stated: Node, resolved: Node, environ: Mapping[str, str], paths: set[RecipePath]) -> dict[str, str]:
    """Resolved text -> how it is written in the dump, for all that must not be shown as it is.

    stated: the tree with its `${NAME}`s. paths: which scalars are paths. Numbers are shown: no secret is a number here.
    """
    home = _home()
    found = {}
    for path, node in scalars(resolved):
        if isinstance(node.value, str) and path in paths and home and node.value.startswith(f"{home}/"):
            found[node.value] = "~" + escape(node.value.removeprefix(home))
    for path, node in scalars(stated):
        names = references(node.value) if isinstance(node.value, str) and path[0] != "env" else ()
        used = {name: environ[name] for name in names if environ.get(name)}
        done, final = find(resolved, path)
        if used and done == path and isinstance(final.value, str):
            found[final.value] = _named(final.value, used, home if path in paths else "") or str(node.value)
    return found


def _named(text: str, used: Mapping[str, str], home: str) -> str:
    """The text with each value's name in its place; empty where one is not in it any more, after a path with `..`."""
    parts = [(text, False)]
    for name, value in used.items():
        forms = (value, value.rstrip("/"), str(Path(value).absolute()), str(Path(value).resolve()))
        form = next((form for form in forms if form and any(form in part for part, named in parts if not named)), None)
        if form is None:
            return ""
        split: list[tuple[str, bool]] = []
        for part, named in parts:
            pieces = [part] if named else part.split(form)
            for piece in pieces[:-1]:
                split += [(piece, False), (f"${{{name}}}", True)]
            split.append((pieces[-1], named))
        parts = split
    first, named = parts[0]
    lead = "~" if home and not named and first.startswith(f"{home}/") else ""
    parts[0] = (first.removeprefix(home) if lead else first, named)
    return lead + "".join(part if named else escape(part) for part, named in parts)


def _home() -> str:
    """The user's home folder; empty where it is not known or the root of all."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return ""
    return "" if home == "/" else home.rstrip("/")
