"""The record of one build: everything the report shows, as one JSON document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edgeft.measurement import check_measurement, check_numbers

SCHEMA_VERSION = 1

MeasurementJson = Annotated[dict[str, Any], AfterValidator(check_measurement)]
VerdictJson = Annotated[dict[str, Any], AfterValidator(check_numbers)]
State = Literal["cached", "ran", "failed", "skipped", "waiting"]


class Row(BaseModel):
    """Base of all record parts: unknown keys are errors so that reader and writer cannot drift apart."""

    model_config = ConfigDict(extra="forbid")


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
    """The same artefact on two targets, over the same cases: what another instruction set changes in the outputs."""

    candidate: str
    against: str
    n: int
    max_abs: float
    mean_abs: float
    top1_agreement: float | None = None


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

    fallback: fraction of nodes that a delegate or accelerator left to the CPU, None where there is none. notes: what
    the exporter found worth saying, such as the mobile usability checker's verdict.
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


class EvaluationRow(Row):
    """One question of a search and its answer. purpose: what it was asked for. kept: layers in float.

    divergence: of the outputs from the float artefact's; it only ranks. chance: to pass the gates, least of all gates.
    cost: in the search's unit; estimated says whether it was measured. passes: None where it was only ranked.
    """

    number: int
    purpose: str
    exporter: str
    variant: str
    kept: list[str] = Field(default_factory=list)
    cases: int = 0
    seconds: float = 0.0
    divergence: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    chance: float | None = None
    cost: float | None = None
    estimated: bool = False
    passes: bool | None = None
    why: str = ""


class LayerRow(Row):
    """What compression does to one layer. sqnr_db: signal to quantisation noise of its output, earlier layers' noise
    included; weights_db, activations_db: by 8-bit weights or activations alone. keep_one, quantise_one: divergence of
    the outputs with only this layer in float, and with only this one compressed. cost: of keeping it in float. name: in
    the graph, the key; label: what the layer's weights are called in the model, where they have a name.
    """

    name: str
    op: str
    weights: int
    sqnr_db: float | None = None
    weights_db: float | None = None
    activations_db: float | None = None
    keep_one: float | None = None
    quantise_one: float | None = None
    cost: float | None = None
    kept: bool = False
    low: float | None = None
    high: float | None = None
    counts: list[int] = Field(default_factory=list)
    label: str = ""

    @property
    def shown(self) -> str:
        """What people read: the label, else the name."""
        return self.label or self.name


class SensitivityRow(Row):
    """The layers of one exporter's float artefact under one variant. whole: divergence with every layer compressed.
    suggestion: in words."""

    exporter: str
    variant: str
    cases: int
    layers: list[LayerRow]
    whole: float | None = None
    suggestion: str = ""


class SearchRow(Row):
    """A target's search: every evaluation in order, what it cost, and the sensitivity of the layers.

    unit: of the costs. chance: least chance asked. best: the candidate it proposes. front: numbers of the evaluations
    that no other one beats in both cost and divergence from float. stopped: why it ended early, empty if not.
    """

    unit: str
    chance: float
    evaluations: list[EvaluationRow]
    budget: int
    cases: int
    seconds: float
    best: str | None = None
    front: list[int] = Field(default_factory=list)
    stopped: str = ""
    sensitivity: list[SensitivityRow] = Field(default_factory=list)


class GateSetRow(Row):
    """The chosen artefact and the source on the sealed gate set. flips: both_right, both_wrong, lost, gained."""

    n: int
    units: int
    source: dict[str, float]
    artefact: dict[str, float]
    flips: dict[str, int]
    confusion: list[list[int]]


MASK_COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Of labels in pictures, in their order, from the start again where there are more: Okabe & Ito's palette."""


class ExampleRow(Row):
    """A case of a segmentation. rank: worst, median or best. size: (height, width) of the pictures, base64 of PNG."""

    rank: str
    case: str
    value: float
    size: tuple[int, int]
    image: str
    truth: str
    answer: str


class TargetRow(Row):
    """One target: its candidates, the choice and its verdicts (Verdict.to_json()). conditions: what the device said of
    itself (processor, flags, runtime versions). signed_by: id of the key that signed the bundle, empty where none
    did."""

    device: str
    how: Literal["measured", "emulated"]
    optimise: str
    candidates: list[CandidateRow]
    chosen: str | None = None
    why: str = ""
    gate_set: GateSetRow | None = None
    verdicts: list[VerdictJson] = Field(default_factory=list)
    folder: str | None = None
    signed_by: str = ""
    conditions: dict[str, str] = Field(default_factory=dict)
    probe: ProbeRow | None = None
    differences: list[DifferenceRow] = Field(default_factory=list)
    search: SearchRow | None = None
    examples: list[ExampleRow] = Field(default_factory=list)


class OpeningRow(Row):
    """One opening of the gate set, counted per gate-set digest across all builds on this store."""

    number: int
    when: str
    build: str
    digest: str
    targets: dict[str, str]


class ErrorRow(Row):
    """Why a build stopped."""

    what: str
    where: str = ""
    hint: str = ""
    excerpt: str = ""
    step: str = ""


class RunRecord(Row):
    """record.json. status: the outcome in a word; exit_code as the command returned it."""

    schema_version: int = SCHEMA_VERSION
    edgeft: str
    name: str
    recipe: str
    description: str = ""
    task: str
    status: Literal["passed", "failed", "inconclusive", "error", "interrupted", "stopped"]
    exit_code: int
    started: str
    finished: str
    wall_seconds: float
    model: dict[str, Any] = Field(default_factory=dict)
    data: DataRow | None = None
    steps: list[StepRow] = Field(default_factory=list)
    training: list[TrainingRow] = Field(default_factory=list)
    pruning: list[PruneRow] = Field(default_factory=list)
    merge: MergeRow | None = None
    source: dict[str, float] = Field(default_factory=dict)
    targets: list[TargetRow] = Field(default_factory=list)
    openings: list[OpeningRow] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    resolved_recipe: str = ""
    warnings: list[str] = Field(default_factory=list)
    error: ErrorRow | None = None
