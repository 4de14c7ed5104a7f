"""What `edgeft profile` and `edgeft compare` found, as one JSON document each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgeft.record import LatencyRow, OperatorRow, ProbeRow, RooflineRow, Row

PROFILE_VERSION = 1


class TensorRow(Row):
    """One input or output. shape: as the model states it; run: as it was run, inputs only."""

    name: str
    dtype: str
    shape: list[int | str]
    run: list[int] = Field(default_factory=list)


class ModelRow(Row):
    """The file that was run. bytes: with the files beside it that belong to it."""

    file: str
    runtime: str
    bytes: int
    sha256: str
    inputs: list[TensorRow] = Field(default_factory=list)
    outputs: list[TensorRow] = Field(default_factory=list)


class OutputRow(Row):
    """One output of two models on the same inputs, over n cases. top1_agreement: of (n, classes) outputs; else None."""

    name: str
    against: str
    n: int
    max_abs: float
    mean_abs: float
    top1_agreement: float | None = None


class ComparisonRow(Row):
    """Model B against A. ratio: median time of A over B's (2: B is twice as fast); interval: 95%. sessions: fresh
    processes with blocks A B B A of both in each, over which the interval is Student's; 0 where every block had a
    process of its own, and the interval is a bootstrap over quadruples of them. discarded: sessions, or quadruples.
    why_no_outputs: why outputs were not compared."""

    a: str
    b: str
    a_ms: float
    b_ms: float
    ratio: float
    interval: tuple[float, float]
    blocks: int
    sessions: int = 0
    discarded: int
    runs: int
    valid: bool
    reasons: list[str]
    how: str
    a_bytes: int
    b_bytes: int
    outputs: list[OutputRow] = Field(default_factory=list)
    why_no_outputs: str = ""


class ProfileRecord(Row):
    """One model on one device. metrics: Measurement.to_json(). inputs: what was fed, in words. conditions: what the
    device says of itself. operators_note, roofline_note: why there are none."""

    schema_version: int = PROFILE_VERSION
    edgeft: str
    started: str
    device: str
    how: Literal["measured"] = "measured"
    protocol: Literal["quick", "full"]
    threads: int
    batch: int
    model: ModelRow
    inputs: str
    verdict: Literal["VALID", "INVALID"]
    reasons: list[str]
    latency: LatencyRow
    metrics: list[dict[str, Any]]
    placement: dict[str, int] = Field(default_factory=dict)
    fallback: float | None = None
    operators: list[OperatorRow] = Field(default_factory=list)
    operators_note: str = ""
    roofline: RooflineRow | None = None
    roofline_note: str = ""
    probe: ProbeRow | None = None
    conditions: dict[str, str] = Field(default_factory=dict)
    comparison: ComparisonRow | None = None


class CompareRecord(Row):
    """Several models on one device, each against the first. inputs: what all of them were fed, in words."""

    schema_version: int = PROFILE_VERSION
    edgeft: str
    started: str
    device: str
    threads: int
    batch: int
    inputs: str
    models: list[ModelRow]
    comparisons: list[ComparisonRow]
    conditions: dict[str, str] = Field(default_factory=dict)
