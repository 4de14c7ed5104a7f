"""Values of a header as plain numbers and texts. What is wrong is said by the attribute's name, never by its value."""

from __future__ import annotations

import math
from typing import Any

from edgeft.medical.limits import Refusal


def get(header: Any, keyword: str) -> Any:
    """The value, None where the attribute is absent or empty; Refusal where pydicom cannot make sense of it."""
    try:
        value = header.get(keyword)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - pydicom raises many kinds for a damaged value, some quote it
        raise Refusal(f"has a {keyword} that cannot be parsed") from None
    return None if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0) else value


def text(header: Any, keyword: str) -> str:
    """The first value as text, empty where there is none."""
    value = get(header, keyword)
    if isinstance(value, (list, tuple)) or type(value).__name__ in ("MultiValue", "Sequence"):
        value = value[0]
    return "" if value is None else str(value).strip("\0 ")


def numbers(header: Any, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """All values as finite floats; None where absent; Refusal for another count or for what is no number."""
    value = get(header, keyword)
    if value is None:
        return None
    many = list(value) if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]
    try:
        found = tuple(float(item) for item in many)
    except (TypeError, ValueError, OverflowError):
        raise Refusal(f"has a {keyword} that is no number") from None
    if count is not None and len(found) != count:
        raise Refusal(f"has a {keyword} of {len(found)} values; {count} are expected")
    if not all(math.isfinite(item) for item in found):
        raise Refusal(f"has a {keyword} that is not finite")
    return found


def number(header: Any, keyword: str) -> float | None:
    """The only value."""
    found = numbers(header, keyword, 1)
    return None if found is None else found[0]


def whole(header: Any, keyword: str, default: int | None = None) -> int:
    """The only value as an integer; Refusal where it is absent without a default, or no integer."""
    found = number(header, keyword)
    if found is None:
        if default is None:
            raise Refusal(f"lacks {keyword}")
        return default
    if found != int(found):
        raise Refusal(f"has a {keyword} that is no integer")
    return int(found)


def items(header: Any, keyword: str) -> list[Any]:
    """The items of a sequence, empty where there is none; Refusal where it is something else."""
    value = get(header, keyword)
    if value is None:
        return []
    if type(value).__name__ != "Sequence":
        raise Refusal(f"has a {keyword} that is no sequence")
    return list(value)


def nested(header: Any, *keywords: str) -> Any:
    """The first item of a sequence in the first item of a sequence ...; None where one is absent."""
    for keyword in keywords:
        found = items(header, keyword)
        if not found:
            return None
        header = found[0]
    return header
