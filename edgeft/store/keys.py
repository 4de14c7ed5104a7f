"""Cache keys, and what to say about a key that is not the one of last time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeft.canonical import canonical_json, digest_json

_SHOWN = 3
_LONGEST = 40
_HEX = re.compile(r"[0-9a-f]{16,}")
_Path = tuple[str, ...]


def step_key(material: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything the step's result depends on, 64 hex digits."""
    return digest_json(material)


def explain_change(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Which part of the key material differs: `new`, `unchanged`, or `changed: config.rank 16 -> 8, ...`.

    `unchanged` is said exactly when both give the same `step_key`. At most three parts are named.
    """
    if before is None:
        return "new"
    old, new = dict(_leaves(before, ())), dict(_leaves(now, ()))
    parts = [text for path in sorted({*old, *new}) if (text := _difference(path, old, new))]
    if not parts:
        return "unchanged"
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return "changed: " + ", ".join(parts[:_SHOWN]) + more


def _leaves(value: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """(path, scalar or empty container) below value; list items are called [0], [1], ..."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, f"[{index}]"))
    else:
        yield path, value


def _difference(path: _Path, old: Mapping[_Path, Any], new: Mapping[_Path, Any]) -> str:
    name = _printable(".".join(path).replace(".[", "[")) or "everything"
    if path not in old:
        return f"{name} added ({_short(new[path])})"
    if path not in new:
        return f"{name} removed (was {_short(old[path])})"
    # Compared as JSON bytes, as the key does: 1, 1.0 and true are three values.
    if canonical_json(old[path]) == canonical_json(new[path]):
        return ""
    return f"{name} {_short(old[path])} -> {_short(new[path])}"


def _short(value: Any) -> str:
    """A value for one line: digests to 8 digits, long texts cut, other values as JSON."""
    text = value if isinstance(value, str) else canonical_json(value).decode("utf-8", "replace")
    text = _HEX.sub(lambda found: found.group()[:8] + "…", text)
    text = _printable(text)
    if not text:
        return "''"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _printable(text: str) -> str:
    """Names and values may come from a user's file: control characters must not reach the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
