"""Rows on what was measured of candidates and devices."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgeft.record.row import MeasurementJson, Row


class LatencyRow(Row):
    """Distribution of single runs. samples_ms: every valid timed run in order (thinned evenly above 2048).

    throttled: the machine was not steady. valid and reasons: VALID, or INVALID and why. discarded: runs in blocks that
    the sentinel invalidated and that were timed anew. early_stopping_p90_ms: MLPerf's bound on the 90th percentile
    at confidence 0.99; None below 64 runs. conditions: governor, clock, temperature, core share before and after.
    """

    samples_ms: list[float]
    runs: int
    warmup_runs: int
    seconds: float
    threads: int
    shape: str
    protocol: str
    throttled: bool = False
    valid: bool = True
    reasons: list[str] = Field(default_factory=list)
    discarded: int = 0
    early_stopping_p90_ms: float | None = None
    sentinel_ms: list[float] = Field(default_factory=list)
    conditions: dict[str, str] = Field(default_factory=dict)


class ImagePairRow(Row):
    """One case as both sides see it, base64 of grey or colour PNG. size: (height, width). difference: 8 times enlarged
    in value, black where they agree."""

    case: str
    size: tuple[int, int]
    ours: str
    theirs: str
    difference: str


class PreprocessRow(Row):
    """Preprocessing computed twice. against: the target whose own numpy computed it, or file.py:function. unit: of
    difference and tolerance. pair: the worst case, where they differ by more than the tolerance."""

    against: str
    how: Literal["measured", "emulated", "computed"]
    cases: int
    origin: str
    difference: float
    tolerance: float
    unit: str
    passed: bool
    pair: ImagePairRow | None = None


class OperatorRow(Row):
    """One operator of a per-op profile, a run apart from the timed ones. ms: mean of one run. share: of all of them."""

    name: str
    op: str
    backend: str = ""
    ms: float
    share: float


class RooflineRow(Row):
    """Least time the device's own peak rates allow, estimated. compute_ms, memory_ms: each alone; floor_ms: the sum
    over operators of the larger. distance: measured p50 over floor_ms. basis: the probes it rests on."""

    floor_ms: float
    compute_ms: float
    memory_ms: float
    gigaops: float
    megabytes: float
    distance: float | None = None
    basis: str


class ProbeRow(Row):
    """Peak rates measured on a device, one thread unless said: GEMM per dtype in 10^9 operations a second, read
    bandwidth from memory in 10^9 bytes a second. cache_mb: the largest cache, 0 where the device does not tell."""

    threads: int
    gemm: dict[str, float]
    bandwidth: float
    how: str
    cache_mb: float = 0.0


class DifferenceRow(Row):
    """One candidate on two targets, over the same cases: what another instruction set changes in the outputs.

    other_bytes: empty where both ran the same files, else the options and settings by which they were made differently.
    """

    candidate: str
    against: str
    n: int
    max_abs: float
    mean_abs: float
    top1_agreement: float | None = None
    other_bytes: str = ""


class ParityRow(Row):
    """Float artefact against the torch model on real inputs."""

    max_abs: float
    mean_abs: float
    tolerance: float
    cases: int
    shapes: list[str]
    passed: bool


class CandidateRow(Row):
    """One artefact tried on one target. metrics: Measurement.to_json(), search set unless named otherwise.

    fallback: fraction of nodes that a delegate or accelerator left to the runtime's own CPU kernels, None where there
    is neither. notes: what the exporter found worth saying, such as the mobile usability checker's verdict.
    """

    name: str
    exporter: str
    runtime: str
    variant: dict[str, Any]
    status: Literal["chosen", "eligible", "rejected", "unsupported", "failed"]
    why: str
    digest: str = ""
    bytes: int = 0
    parity: ParityRow | None = None
    metrics: list[MeasurementJson] = Field(default_factory=list)
    flips: dict[str, int] = Field(default_factory=dict)
    latency: LatencyRow | None = None
    placement: dict[str, int] = Field(default_factory=dict)
    fallback: float | None = None
    operators: list[OperatorRow] = Field(default_factory=list)
    roofline: RooflineRow | None = None
    notes: list[str] = Field(default_factory=list)
    confusion: list[list[int]] | None = None
