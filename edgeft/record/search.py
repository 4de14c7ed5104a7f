"""Rows on a compression search and the sensitivity of layers."""

from __future__ import annotations

from pydantic import Field

from edgeft.record.row import Row


class EvaluationRow(Row):
    """One question of a search and its answer. purpose: what it was asked for. kept: layers in float. cases: how
    many it tells of; those that an earlier question ran are not run again.

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
    that no other one beats in both cost and divergence from float. stopped: why it ended early, or had nothing
    to ask; empty if neither.
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
