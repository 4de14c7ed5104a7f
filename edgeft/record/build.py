"""The record of one build, with its targets, openings and error."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgeft.record.measured import CandidateRow, DifferenceRow, PreprocessRow, ProbeRow
from edgeft.record.row import Row, VerdictJson
from edgeft.record.search import SearchRow
from edgeft.record.trunk import DataRow, MergeRow, PruneRow, StepRow, TrainingRow

SCHEMA_VERSION = 1


class GateSetRow(Row):
    """The chosen artefact and the source on the sealed gate set. flips: both_right, both_wrong, lost, gained.
    thresholds: what was frozen on the source, in words -> least probability. rule: the recipe's baseline without a
    network in words, empty without one; by_rule: its metrics on the same cases."""

    n: int
    units: int
    source: dict[str, float]
    artefact: dict[str, float]
    flips: dict[str, int]
    confusion: list[list[int]]
    thresholds: dict[str, float] = Field(default_factory=dict)
    rule: str = ""
    by_rule: dict[str, float] = Field(default_factory=dict)


MASK_COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Of labels in pictures, in their order, from the start again where there are more: Okabe & Ito's palette."""


BORDER_COLOURS = ("#00e5ff", "#ff5fd2", "#ffffff")
"""Of the truth's borders, of the answer's and of where both run, in pictures; none is a label's."""
CHANGED_COLOUR = "#ffe600"
"""Of pixels whose class compression changed."""


class ExampleRow(Row):
    """A case of a segmentation. rank: worst, median or best. size: (height, width) of the pictures, base64 of PNG.

    Empty where there is none: borders (of truth and answer, on the image), changes (pixels of another class than the
    source's; changed: their share), shift (of the logits from the float artefact's; most_shift: the largest).
    """

    rank: str
    case: str
    value: float
    size: tuple[int, int]
    image: str
    truth: str
    answer: str
    borders: str = ""
    changes: str = ""
    changed: float | None = None
    shift: str = ""
    most_shift: float | None = None


class TargetRow(Row):
    """One target: its candidates, the choice and its verdicts (Verdict.to_json()). conditions: what the device said of
    itself (processor, flags, runtime versions). signed_by: id of the key that signed the bundle, empty where none
    did. not_run: of a device reached by hand, what was not measured and how it can be; empty where it was run."""

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
    not_run: str = ""
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
    preprocessing: list[PreprocessRow] = Field(default_factory=list)
    targets: list[TargetRow] = Field(default_factory=list)
    openings: list[OpeningRow] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    resolved_recipe: str = ""
    warnings: list[str] = Field(default_factory=list)
    error: ErrorRow | None = None
