"""Rows on data, steps, training, pruning and merging."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgeft.record.row import Row

State = Literal["cached", "ran", "failed", "skipped", "waiting"]


class StepRow(Row):
    """One step of the build. why: why it ran (`new`, `changed: config.rank 16 -> 8`)."""

    id: str
    title: str
    state: State
    seconds: float = 0.0
    why: str = ""
    key: str = ""
    digest: str = ""
    bytes: int = 0
    warnings: list[str] = Field(default_factory=list)


class SplitRow(Row):
    """classes: label -> rows. truncated: rows longer than the serve length, None where it does not apply."""

    name: str
    n: int
    units: int
    groups: int
    digest: str
    classes: dict[str, int]
    truncated: int | None = None


class DataRow(Row):
    """Where the data came from and how it was divided."""

    source: str
    labels: list[str]
    splits: list[SplitRow]
    unit: str = "row"
    warnings: list[str] = Field(default_factory=list)


class CurvePoint(Row):
    """One logged moment of a training run."""

    step: int
    epoch: float
    loss: float | None = None
    learning_rate: float | None = None
    eval_loss: float | None = None
    eval_metric: float | None = None
    memory_mb: float | None = None
    examples_per_second: float | None = None


class TrainingRow(Row):
    """A training step: what was trained and how it went. teacher: what was compared with a teacher, empty without one
    (temperature, weights, layer_map as pairs of student and teacher layers, projected, relation_heads)."""

    step: str
    method: str
    metric: str
    trainable_parameters: int
    total_parameters: int
    steps: int
    epochs: float
    best_step: int
    best_metric: float
    stopped_early: bool
    resumed: int = 0
    seconds: float
    examples_per_second: float
    peak_memory_mb: float | None = None
    device: str
    micro_batch: int
    curve: list[CurvePoint]
    teacher: dict[str, Any] = Field(default_factory=dict)


class WidthRow(Row):
    """What pruning left of one part. kind: heads, neurons, channels, layers, rows, weights."""

    part: str
    kind: str
    before: int
    after: int


class ScoreRow(Row):
    """The task's headline metric on validation at one moment: before, pruned, healed (numbered where there are several
    rounds)."""

    at: str
    value: float


class RatioTrial(Row):
    """One size tried against a latency budget: p50 of a real export on the device, measured."""

    ratio: float
    p50_ms: float
    interval: tuple[float, float] | None = None
    runs: int
    valid: bool


class RatioSearch(Row):
    """How `target_latency_ms` became a ratio. candidate: what was exported and timed."""

    device: str
    candidate: str
    budget_ms: float
    ratio: float
    trials: list[RatioTrial]


class PruneRow(Row):
    """A pruning step. importance: what decided; macs: multiply-accumulates of one case of the serve shape, None where
    they do not change; compressed: bytes of the weights under zlib level 6, for zeros that no runtime skips."""

    step: str
    method: str
    importance: str
    parameters: tuple[int, int]
    macs: tuple[int, int] | None = None
    compressed: tuple[int, int] | None = None
    widths: list[WidthRow] = Field(default_factory=list)
    metric: str
    n: int
    scores: list[ScoreRow] = Field(default_factory=list)
    heals: list[TrainingRow] = Field(default_factory=list)
    search: RatioSearch | None = None
    notes: list[str] = Field(default_factory=list)


class MergeCandidate(Row):
    """One way to merge, scored against the unmerged model on validation. kl: mean KL(unmerged || merged), nats."""

    name: str
    base: str
    kl: float
    top1_agreement: float
    max_logit_difference: float
    metric_value: float
    taken: bool


class MergeRow(Row):
    """Merge fidelity. metric: which metric; unmerged_value: the unmerged model's."""

    step: str
    metric: str
    n: int
    unmerged_value: float
    why: str
    candidates: list[MergeCandidate]
