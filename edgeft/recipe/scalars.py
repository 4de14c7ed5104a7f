"""Scalars by the core schema of YAML 1.2.2, section 10.3.2: no dates, no yes/no, no octal by a leading zero."""

from __future__ import annotations

import re

from edgeft.recipe.tree import Scalar

WORDS: dict[str, bool | None] = {
    form: value
    for word, value in (("", None), ("~", None), ("null", None), ("true", True), ("false", False))
    for form in (word, word.capitalize(), word.upper())
}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_OTHER_INT = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.2.2, production [1], does not let stand in a text; the byte order mark is removed before."""

LARGEST = 2**63 - 1
MAX_DIGITS = 40


class BadScalar(ValueError):
    """A scalar that is no value edgeft takes; its text says why."""


def resolve(text: str) -> Scalar:
    """Value of a plain (unquoted) scalar. BadScalar for NaN, infinity and numbers out of range."""
    if text in WORDS:
        return WORDS[text]
    if _NOT_FINITE.match(text):
        raise BadScalar(f"{text} is not a finite number")
    if _INT.match(text) or _OTHER_INT.match(text):
        return _whole(text)
    if _FLOAT.match(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise BadScalar(f"{text[:MAX_DIGITS]} is too large a number")
        return value
    return text


def _whole(text: str) -> int:
    value = LARGEST + 1 if len(text) > MAX_DIGITS else int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if abs(value) > LARGEST:
        raise BadScalar(f"{text[:MAX_DIGITS]} is too large a number")
    return value


def check_text(text: str) -> str:
    """The text itself; BadScalar where it holds characters that no file name or label should (NUL, escapes)."""
    found = UNPRINTABLE.search(text)
    if found:
        raise BadScalar(f"the text holds the unprintable character U+{ord(found.group()):04X}")
    return text
