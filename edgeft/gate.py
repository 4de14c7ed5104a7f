"""Gates as a recipe states them and verdicts as a build answers them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Status = Literal["PASS", "FAIL", "INCONCLUSIVE"]

DATA_METRICS = frozenset({"accuracy", "macro_f1"})
"""Metrics of the gate set. A user's own metric (`file.py:function`) is one too."""
CASE_METRICS = ("mean_dice", "mean_iou", "pixel_accuracy", "dice_")
"""Metrics, or beginnings of their names, that are means of one value in [0, 1] per case."""
LATENCY_METRICS = frozenset(
    {"latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "cold_load_ms", "first_inference_ms"}
)
RESOURCE_METRICS = LATENCY_METRICS | {"artifact_mb", "peak_memory_mb"}
LOWER_IS_BETTER = RESOURCE_METRICS


class Gate(BaseModel):
    """One condition every shipped artefact must meet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str = Field(
        description="accuracy, macro_f1, mean_dice, mean_iou, pixel_accuracy, dice_LABEL, latency_p50_ms, "
        "latency_p90_ms, latency_p99_ms, cold_load_ms, first_inference_ms, peak_memory_mb, artifact_mb, or "
        "your own as file.py:function."
    )
    at_least: float | None = Field(None, description="The value may not be below this.")
    at_most: float | None = Field(None, description="The value may not be above this.")
    no_worse_than: Literal["source"] | None = Field(
        None, description="Compare with the unmerged fine-tuned model (or the given float model), case by case."
    )
    margin: float | None = Field(None, ge=0, description="How much worse than the source is still acceptable.")
    device: str | None = Field(None, description="Hold on this target only; without it the gate holds on every target.")
    severity: Literal["block", "warn"] = Field("block", description="A warn gate is reported but stops nothing.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided confidence a PASS or FAIL needs.")

    @model_validator(mode="after")
    def _one_condition(self) -> Gate:
        given = [name for name in ("at_least", "at_most", "no_worse_than") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of at_least, at_most, no_worse_than")
        if self.no_worse_than and self.margin is None:
            raise ValueError("no_worse_than needs a margin")
        if self.margin is not None and not self.no_worse_than:
            raise ValueError("margin goes with no_worse_than")
        if self.no_worse_than and self.metric in RESOURCE_METRICS:
            raise ValueError(f"{self.metric} has no source value to compare with: use at_most")
        if self.at_most is not None and self.at_most <= 0 and self.metric in RESOURCE_METRICS:
            raise ValueError(f"{self.metric} is never {self.at_most:g} or less: no artefact could pass")
        if self.at_least is not None and self.metric in RESOURCE_METRICS:
            raise ValueError(f"{self.metric} is better when lower: use at_most")
        return self

    @property
    def needs_gate_set(self) -> bool:
        """True for what is decided on the sealed gate set."""
        return self.metric not in RESOURCE_METRICS

    def describe(self) -> str:
        """`accuracy no worse than source by 0.02`, `latency_p90_ms at most 6`."""
        if self.no_worse_than:
            return f"{self.metric} no worse than {self.no_worse_than} by {self.margin:g}"
        if self.at_least is not None:
            return f"{self.metric} at least {self.at_least:g}"
        return f"{self.metric} at most {self.at_most:g}"


@dataclass(frozen=True)
class Verdict:
    """A gate's answer on one target, with the reason in a sentence and the cases that would decide it.

    quantity: what value and interval are of (`loss of accuracy`, `latency_p90_ms`); limit: what they are held against.
    """

    gate: str
    metric: str
    target: str
    status: Status
    why: str
    severity: str = "block"
    value: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    needed_n: int | None = None
    method: str = ""
    quantity: str = ""
    limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        data = asdict(self)
        data["interval"] = list(self.interval) if self.interval else None
        return data
