"""Openings of sealed gate sets: an append-only list, counted per gate set across all builds of a store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json
from edgeft.store.disk import guard


def read_openings(path: Path, on_warning: Callable[[str], None]) -> tuple[list[dict[str, Any]], int]:
    """(openings in order, number of lines that cannot be read)."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return [], 0
    found, torn = [], 0
    for line in lines:
        try:
            item = json.loads(line)
            if not isinstance(item, dict) or not isinstance(item.get("digest"), str):
                raise TypeError("not an opening")
            found.append(item)
        except (ValueError, TypeError, RecursionError):
            torn += 1
    if torn:
        on_warning(f"{path}: {torn} line(s) cannot be read; each counts as an opening of every gate set")
    return found, torn


def append_opening(
    path: Path, digest: str, build: str, targets: Mapping[str, str], when: str, on_warning: Callable[[str], None]
) -> int:
    """Write one line and return its running number for this gate set. Call inside the store's lock.

    A line that cannot be read (torn by a power cut) counts for every gate set: the count may be too high, never low.
    """
    with guard(path):
        found, torn = read_openings(path, on_warning)
        number: int = 1 + torn + sum(item["digest"] == digest for item in found)
        item = {"digest": digest, "build": build, "targets": dict(targets), "when": when, "number": number}
        with path.open("ab") as stream:
            end = stream.seek(0, os.SEEK_END)
            start = b"\n" if end and path.read_bytes()[-1:] != b"\n" else b""
            try:
                stream.write(start + canonical_json(item) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                os.truncate(path, end)
                raise
    return number
