"""What `edgeft check` found, as one JSON document; terminal lines, JUnit XML and Markdown are made of it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeft.gate import Status
from edgeft.record import Row

CHECK_VERSION = 1
Kind = Literal["accuracy", "latency", "size"]
KINDS: tuple[Kind, ...] = ("accuracy", "latency", "size")


def shown(path: Path) -> str:
    """A path as text that can be written; bytes that are no UTF-8 become escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


class SideRow(Row):
    """Candidate or baseline. bytes, sha256: of the model's files. gated: `passed` or what else a bundle's manifest says
    of its own gates; empty for a bare model, of which nothing is known. signer: id of the trusted key that signed the
    bundle; empty where none was asked for. preprocessing: whose it is, in words."""

    path: str
    form: Literal["bundle", "model"]
    runtime: str
    bytes: int
    sha256: str
    task: str = ""
    gated: str = ""
    signer: str = ""
    preprocessing: str = ""


class DataRow(Row):
    """The labelled cases both were asked. unit: what was sampled independently. repeated: rows seen before. trained:
    cases whose group a side was trained on, as far as salts say it."""

    path: str
    n: int
    units: int
    unit: str
    digest: str
    repeated: int = 0
    trained: int = 0


class PartRow(Row):
    """The answer on one subgroup; the whole has an empty name."""

    subgroup: str
    status: Status
    why: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    needed_n: int | None = None


class CheckVerdict(Row):
    """One answer. candidate, baseline: the figure as people know it, in `unit`. value, interval, limit: what was
    decided on (a loss, a ratio of times, bytes) in the metric's own scale. limit_from: where the limit was stated.
    owner, justification: of a margin, as its gate states them; unaccounted: which of the two it lacks. parts: of a
    limit that holds for every subgroup; the numbers are then those of the one that decides."""

    check: Kind
    name: str
    status: Status
    why: str
    severity: Literal["block", "warn"] = "block"
    candidate: float | None = None
    baseline: float | None = None
    unit: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None
    limit_from: str = ""
    owner: str = ""
    justification: str = ""
    unaccounted: list[str] = Field(default_factory=list)
    n: int | None = None
    needed_n: int | None = None
    method: str = ""
    parts: list[PartRow] = Field(default_factory=list)


class LeftOut(Row):
    """A check that the user asked to leave out."""

    check: Kind
    why: str


class CheckRecord(Row):
    """A candidate against a baseline on one device. identical: both are the same bytes, so that nothing was run.
    outputs: how far the answers differ, in words. notes: what a reader must know of the figures."""

    schema_version: int = CHECK_VERSION
    edgeft: str
    started: str
    seconds: float
    device: str
    how: Literal["measured", "emulated"]
    status: Status
    candidate: SideRow
    baseline: SideRow
    identical: bool = False
    data: DataRow | None = None
    verdicts: list[CheckVerdict] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)
    outputs: str = ""
    notes: list[str] = Field(default_factory=list)
    conditions: dict[str, str] = Field(default_factory=dict)
