"""What a self-test is made of: questions whose answers are known, and how they were answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["PASS", "FAIL", "SKIPPED"]


class Skipped(Exception):
    """An item that cannot be asked here; the text says why."""


class Mismatch(Exception):
    """An answer that is not the known one."""

    def __init__(self, expected: object, got: object) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = str(expected), str(got)


@dataclass(frozen=True)
class Item:
    """One question. source: where its answer comes from. ask: gives what was found, for the report; raises Mismatch."""

    group: str
    name: str
    source: str
    ask: Callable[[], str]


class ItemRow(BaseModel):
    """An item and how it was answered. said: what was found, what differs, or why it was skipped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    name: str
    source: str
    status: Status
    said: str
    seconds: float


class SelftestRecord(BaseModel):
    """selftest.json. host: of the machine; versions: of everything that a bundle can depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    edgeft: str
    started: str
    seconds: float
    host: dict[str, str]
    versions: dict[str, str]
    items: list[ItemRow]

    def count(self, status: Status) -> int:
        """How many items ended so."""
        return sum(row.status == status for row in self.items)

    @property
    def status(self) -> Status:
        """FAIL where one item failed, or where none was asked."""
        return "PASS" if self.count("PASS") and not self.count("FAIL") else "FAIL"


def same(expected: object, got: object) -> str:
    """The answer, where it is exactly the known one."""
    if got != expected or type(got) is not type(expected):
        raise Mismatch(expected, got)
    return str(got)


def near(expected: Sequence[float], got: Sequence[float], within: float) -> str:
    """Numbers, where each is the known one within the rounding of its source. NaN is never near."""
    alike = len(expected) == len(got) and all(
        isclose(a, b, rel_tol=0, abs_tol=within) for a, b in zip(expected, got, strict=True)
    )
    text = ", ".join(f"{value:.6g}" for value in got)
    if not alike:
        raise Mismatch(f"{', '.join(f'{value:g}' for value in expected)} within {within:g}", text)
    return f"{text} (known to {within:g})"
