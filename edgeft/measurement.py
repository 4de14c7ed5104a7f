"""A number and how it was obtained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

How = Literal["measured", "emulated", "estimated"]


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
