"""A recipe as YAML text that loads to an equal recipe: every default written out, keys in the order of the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgeft.recipe.interpolate import escape
from edgeft.recipe.scalars import UNPRINTABLE, BadScalar, resolve
from edgeft.recipe.schema import Recipe

PLAIN_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/.")
PLAIN_REST = PLAIN_FIRST | frozenset(" -+()@=")
MAX_PLAIN = 200


def dump_recipe(recipe: Recipe, shown: Mapping[str, str] | None = None) -> str:
    """Text that ends in a newline. `extends` is left out: what it brought in is written here.

    shown: value -> how it is written instead, references to the environment included.
    """
    entries = to_plain(recipe)
    entries.pop("extends", None)
    entries["steps"] = [{stage.name: to_plain(stage)} for stage in recipe.steps]
    return "\n".join(_mapping(_with_references(entries, shown or {}), 0)) + "\n"


class _Reference(str):
    """Text with `${NAME}`s that mean what they say: they are not escaped."""


def _with_references(value: Any, shown: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_references(found, shown) for key, found in value.items()}
    if isinstance(value, list):
        return [_with_references(found, shown) for found in value]
    return _Reference(shown[value]) if isinstance(value, str) and value in shown else value


def to_plain(value: Any) -> Any:
    """Plain lists and mappings; a key is left out where None is both its value and its default."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: to_plain(found)
            for name, field in fields.items()
            if (found := getattr(value, name)) is not None or field.default is not None
        }
    if isinstance(value, dict):
        return {str(key): to_plain(found) for key, found in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(to_plain(found) for found in value)
    if isinstance(value, (list, tuple)):
        return [to_plain(found) for found in value]
    return str(value) if isinstance(value, Path) else value


def scalar(value: Any) -> str:
    """A scalar as YAML; text is quoted unless it reads as the same text without."""
    if not isinstance(value, str):
        return json.dumps(value)
    text = str(value) if isinstance(value, _Reference) else escape(value)
    try:
        same = isinstance(resolve(text), str)
    except BadScalar:
        same = False
    tame = set(text) <= PLAIN_REST and text[:1] in PLAIN_FIRST and text.strip() == text and len(text) <= MAX_PLAIN
    if same and tame:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return UNPRINTABLE.sub(_escaped, quoted).replace("\x85", "\\x85").replace("\u2028", "\\L").replace("\u2029", "\\P")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


def _mapping(entries: dict[str, Any], indent: int) -> list[str]:
    lines = []
    for key, value in entries.items():
        lines += _entry(f"{' ' * indent}{scalar(key)}:", value, indent + 2)
    return lines


def _entry(head: str, value: Any, indent: int) -> list[str]:
    if isinstance(value, dict):
        return [head, *_mapping(value, indent)] if value else [f"{head} {{}}"]
    if isinstance(value, list):
        if not any(isinstance(item, (dict, list)) for item in value):
            return [f"{head} [{', '.join(map(scalar, value))}]"]
        return [head, *[line for item in value for line in _item(item, indent)]]
    return [f"{head} {scalar(value)}"]


def _item(value: Any, indent: int) -> list[str]:
    dash = f"{' ' * indent}- "
    if isinstance(value, dict) and value:
        first, *rest = _mapping(value, indent + 2)
        return [dash + first.lstrip(" "), *rest]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [dash.rstrip(), *[line for item in value for line in _item(item, indent + 2)]]
    return _entry(f"{' ' * indent}-", value, indent + 2)
