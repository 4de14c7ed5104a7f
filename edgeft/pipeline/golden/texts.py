"""Built-in texts for tokenizer vectors: what breaks tokenizers that were written again for a device."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

GROUPS = Path(__file__).with_suffix(".json")
"""Group -> texts; written in ASCII, since some of them change the direction of what follows."""
WHOLE = ("ideographs", "right_to_left", "scripts", "plain")
LEAST = 500


def golden_texts(length: int) -> list[str]:
    """At least LEAST texts, each once, in an order that never changes. length: tokens that the tokenizer cuts to."""
    return list(dict.fromkeys(_texts(length)))


@cache
def _groups() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(GROUPS.read_text(encoding="ascii"))
    return found


def _texts(length: int) -> Iterator[str]:
    groups = _groups()
    yield ""
    yield from (" " * n for n in (1, 2, 17))
    yield from (chr(code) for code in range(0x21, 0x7F))
    yield from (f"a{chr(code)}b" for code in (*range(0x20), *range(0x7F, 0xA0)))
    yield from (f"left{space}right" for space in groups["spaces"])
    for emoji in groups["emoji"]:
        yield emoji
        yield f"great{emoji} job {emoji}{emoji}!"
    for word in groups["words"]:
        yield word
        yield f"{unicodedata.normalize('NFD', word)} {word.upper()} {word.lower()}"
    for name in WHOLE:
        yield from groups[name]
        yield from (f"Before {text} after" for text in groups[name])
    for token in groups["special"]:
        yield token
        yield f"text {token} more{token}"
    yield from ("\ufffd", "\ufffe", "\U0010ffff", "\ue000", "a\u0000b\u0000")
    yield from _overlong(length)


def _overlong(length: int) -> Iterator[str]:
    """Words that are too long, and texts of about as many tokens as are kept, and of far more."""
    yield from ("w" * n for n in (99, 100, 101, 200, 201, 5000))
    yield from (" ".join(["a"] * n) for n in range(max(1, length - 4), length + 4))
    yield from ("word " * 3 * length, "\u00e9" * 2 * length, "\u6f22" * 2 * length, ("x" * 150 + " ") * 20)
    yield "\U0001f44d\U0001f3fd" * length
