"""A number and how it was obtained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

How = Literal["measured", "emulated", "estimated"]


NUMBERS = ("value", "n", "limit", "needed_n", "confidence")


def check_numbers(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a measurement or verdict as it is. ValueError where what must be a number is none: records can be
    edited by hand, and NaN and infinity are written as words."""
    interval = row.get("interval")
    if interval is not None and (not isinstance(interval, list | tuple) or len(interval) != 2):
        raise ValueError("interval must be two numbers")
    stated = {name: row[name] for name in NUMBERS if row.get(name) is not None}
    for name, value in [*stated.items(), *(("interval", end) for end in interval or ())]:
        if not isinstance(value, int | float) and value not in ("NaN", "Infinity", "-Infinity"):
            raise ValueError(f"{name} must be a number")
    if broken := [name for name in ("n", "needed_n") if not isinstance(stated.get(name, 0), int)]:
        raise ValueError(f"{broken[0]} must be a whole number")
    parts = row.get("parts") or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) and not part.get("parts") for part in parts):
        raise ValueError("parts must be a list of verdicts without parts")
    for part in parts:
        check_numbers(part)
    return row


def check_measurement(row: dict[str, Any]) -> dict[str, Any]:
    """As `check_numbers`, of a row that must say its value and over how many samples."""
    if lacking := [name for name in ("value", "n") if row.get(name) is None]:
        raise ValueError(f"{lacking[0]} is not stated")
    return check_numbers(row)


@dataclass(frozen=True)
class Measurement:
    """metric in `unit` over n samples; interval is (low, high) at `confidence`, None where none applies.

    where: the device's name. method: one phrase on how the value and interval were computed.
    """

    metric: str
    value: float
    unit: str
    n: int
    how: How
    where: str
    interval: tuple[float, float] | None = None
    confidence: float = 0.95
    method: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; the interval becomes a two-item list."""
        data = asdict(self)
        data["interval"] = list(self.interval) if self.interval else None
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> Measurement:
        """Inverse of `to_json`."""
        interval = data.get("interval")
        return Measurement(**{**data, "interval": (interval[0], interval[1]) if interval else None})
