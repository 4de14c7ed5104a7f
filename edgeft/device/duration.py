"""Times as people write them on a command line."""

from __future__ import annotations

import re

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 7 * 24 * 3600.0


def parse_duration(text: str) -> float:
    """`90s`, `10m`, `1h` or `1h30m` in seconds. ValueError says what is wrong."""
    parts = re.findall(r"(\d{1,6}(?:\.\d{1,6})?)([smh])", text)
    order = [unit for _, unit in parts]
    whole = "".join(number + unit for number, unit in parts) == text.strip()
    if not parts or not whole or order != sorted(set(order), key="hms".index):
        hint = f"; did you mean {text.strip()}s or {text.strip()}m?" if re.fullmatch(r"\s*\d{1,6}\s*", text) else ""
        raise ValueError(f"'{text}' is not a time such as 90s, 10m or 1h30m{hint}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > LONGEST:
        raise ValueError(f"'{text}' is longer than {LONGEST / 86400:g} days")
    return seconds
