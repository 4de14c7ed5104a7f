"""Small YAML files of a user's, read strictly: one mapping, limited size, no aliases, no tags, no duplicate keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

    from edgeft.errors import RecipeError

LARGEST = 1 << 16
"""Bytes of a file that is read; the largest shipped profile has 2 KB."""
DEEPEST = 10
"""Levels of a file, with stream and document; a profile has five."""


def read_mapping(path: Path, what: str, *, empty: bool = False) -> dict[Any, Any]:
    """The mapping in a file. what: `device profile`, for messages. empty: whether there may be nothing in it.

    RecipeError names the file and the fault.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from edgeft.errors import RecipeError

    try:
        if path.stat().st_size > LARGEST:
            raise RecipeError(f"larger than {LARGEST >> 10} KiB, not a {what}", where=str(path))
        text = path.read_text(encoding="utf-8")
        if fault := _find_fault(YAML(typ="safe", pure=True).parse(text)):
            raise RecipeError(f"{fault} in a {what}", where=str(path))
        data = YAML(typ="safe", pure=True).load(text)
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        # ValueError: ruamel lets it out for a date or a number that cannot be, such as 2026-13-45.
        raise RecipeError(f"not valid YAML: {' '.join(str(error).split())[:200]}", where=str(path)) from error
    if data is None and empty:
        return {}
    if not isinstance(data, dict):
        raise RecipeError(f"a {what} is a mapping of keys to values", where=str(path))
    return data


def _find_fault(events: Iterable[object]) -> str:
    """What is not allowed among a parser's events, read one by one: deep brackets cost quadratic time to parse."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        if kind == "AliasEvent":
            return "YAML aliases are not allowed"
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > DEEPEST:
            return "values nested this deep are not allowed"
    return ""


def explain(error: ValidationError, known: Collection[str], *, where: str, what: str) -> RecipeError:
    """The first problem as where, what and, for an unknown key, a near name. what: `a device`, `a unit`."""
    from difflib import get_close_matches

    from edgeft.errors import RecipeError

    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        near = get_close_matches(key, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        return RecipeError(f"{what} has no key '{key}'", where=where, hint=hint)
    said = first["msg"].removeprefix("Value error, ")
    return RecipeError(f"{key}: {said}" if key else said, where=where)
