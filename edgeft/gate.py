"""Gates as a recipe states them and verdicts as a build answers them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeft.gate_rules import CHECKS
from edgeft.metric_names import RATE_FAMILIES, RESOURCE_METRICS

Status = Literal["PASS", "FAIL", "INCONCLUSIVE"]

SOURCE = "source"
"""What `no_worse_than` says for the unmerged fine-tuned model; anything else is the path of a released bundle."""


@dataclass(frozen=True)
class OperatingPoint:
    """A label's threshold, fixed by the `rate` (sensitivity or specificity) that the source has there."""

    label: str
    rate: Literal["sensitivity", "specificity"]
    value: float

    @property
    def words(self) -> str:
        """`specificity of 0.9`."""
        return f"{self.rate} of {self.value:g}"


class Gate(BaseModel):
    """One condition every shipped artefact must meet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str = Field(
        description="accuracy, macro_f1, sensitivity_LABEL, specificity_LABEL, auroc_LABEL, average_precision_LABEL, "
        "ece, brier, flip_rate, label_accuracy (of multi-label tasks), mean_dice, mean_iou, pixel_accuracy, "
        "dice_LABEL, iou_LABEL, surface_dice_LABEL, hd95_mm_LABEL, volume_error_LABEL, volume_ml_error_LABEL (these "
        "four also as mean_surface_dice, mean_hd95_mm, ...), token_accuracy, nll (of a text's next tokens), "
        "latency_p50_ms, latency_p90_ms, latency_p99_ms, cold_load_ms, first_inference_ms, peak_memory_mb, "
        "artifact_mb, or your own as file.py:function."
    )
    at_least: float | None = Field(None, description="The value may not be below this.")
    at_most: float | None = Field(None, description="The value may not be above this.")
    no_worse_than: str | None = Field(
        None,
        min_length=1,
        description="Compare case by case: source (the unmerged fine-tuned model, or the given float model), or the "
        "folder of a released bundle, which is then run over the same cases.",
        examples=["source"],
    )
    margin: float | None = Field(None, ge=0, description="How much worse than its baseline is still acceptable.")
    cases_losing: float | None = Field(
        None, gt=0,
        description="With at_most: hold the share of cases whose value is worse than the source's by more than this, "
        "instead of the mean. For metrics with a value per case, such as mean_dice; in the metric's unit.",
    )  # fmt: skip
    tolerance_mm: float | None = Field(
        None, ge=0, description="For surface_dice: how far apart in mm two borders may lie and still agree."
    )
    at_worst: float | None = Field(
        None, gt=0,
        description="For hd95_mm, volume_ml_error, nll and metrics of your own, whose largest value nobody knows: no "
        "case counts for more than this, in the metric's unit; 1 for values from 0 to 1. Not needed with cases_losing.",
    )  # fmt: skip
    at_specificity: float | None = Field(
        None, gt=0, lt=1,
        description="For sensitivity_LABEL and specificity_LABEL: answer LABEL from the probability on at which the "
        "source reaches this specificity on the search set, instead of where it is the likeliest. That threshold is "
        "frozen, the same for every artefact, and goes into the bundle.",
    )  # fmt: skip
    at_sensitivity: float | None = Field(
        None, gt=0, lt=1, description="The same with the highest probability at which the source is this sensitive."
    )  # fmt: skip
    by: str | None = Field(
        None,
        min_length=1,
        description="Column of the data: the gate must hold in the whole and for each of the column's values by "
        "itself, so the worst subgroup decides.",
        examples=["site"],
    )
    unit: str | None = Field(
        None,
        min_length=1,
        description="Column whose values this gate counts as drawn independently; row: every row. Default: data.unit.",
        examples=["patient"],
    )
    device: str | None = Field(
        None,
        description="Hold on this target only (its type, or the name the target has), else on every target.",
    )
    severity: Literal["block", "warn"] = Field("block", description="A warn gate is reported but stops nothing.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided confidence a PASS or FAIL needs.")
    owner: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Who answers for the limit; asked for wherever there is a margin.",
    )
    justification: str | None = Field(
        None, min_length=1, max_length=2000, description="Why the limit is acceptable; asked for with a margin."
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_condition(self) -> Gate:
        for check in CHECKS:
            check(self)
        return self

    @property
    def needs_gate_set(self) -> bool:
        """True for what is decided on the sealed gate set."""
        return self.metric not in RESOURCE_METRICS

    @property
    def values(self) -> str:
        """What a score calls its values per case: the metric, with its tolerance where it has one."""
        return self.metric if self.tolerance_mm is None else f"{self.metric} within {self.tolerance_mm:g} mm"

    @property
    def point(self) -> OperatingPoint | None:
        """Where the source's threshold is frozen; None where the likeliest label is the answer."""
        label = next((self.metric.removeprefix(name) for name in RATE_FAMILIES if self.metric.startswith(name)), "")
        if self.at_specificity is not None:
            return OperatingPoint(label, "specificity", self.at_specificity)
        return None if self.at_sensitivity is None else OperatingPoint(label, "sensitivity", self.at_sensitivity)

    @property
    def subject(self) -> str:
        """What is held against the limit, as sentences, records and searches name it."""
        return self.plain_subject + ("" if self.at_worst is None else f" (at worst {self.at_worst:g})")

    @property
    def plain_subject(self) -> str:
        """The same of whole values, none of them cut."""
        return self.values + ("" if self.point is None else f" at the {self.baseline}'s {self.point.words}")

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the data that it needs besides the task's own."""
        return frozenset({self.by, self.unit} - {None, "row"})  # type: ignore[arg-type]

    @property
    def released(self) -> str | None:
        """Path of the released bundle that this gate compares with; None where it compares with none."""
        return None if self.no_worse_than in (None, SOURCE) else self.no_worse_than

    @property
    def baseline(self) -> str:
        """What it compares with, as a sentence names it."""
        return f"released {short_name(self.released)}" if self.released else SOURCE

    @property
    def unaccounted(self) -> tuple[str, ...]:
        """Of owner and justification, what a margin lacks."""
        wanted = ("owner", "justification") if self.margin is not None else ()
        return tuple(name for name in wanted if getattr(self, name) is None)

    def describe(self) -> str:
        """`accuracy no worse than source by 0.02 in every site`, `latency_p90_ms at most 6`."""
        every = f" in every {self.by}" if self.by else ""
        every += f", counted by {self.unit}" if self.unit else ""
        if self.no_worse_than:
            return f"{self.subject} no worse than {self.baseline} by {self.margin:g}{every}"
        if self.at_least is not None:
            return f"{self.subject} at least {self.at_least:g}{every}"
        name = self.subject if self.cases_losing is None else f"cases losing {self.cases_losing:g} of {self.subject}"
        return f"{name} at most {self.at_most:g}{every}"

    def answer(self, target: str, status: Status, why: str, **numbers: Any) -> Verdict:
        """A verdict of this gate. numbers: the further fields of Verdict."""
        return Verdict(
            gate=self.describe(), metric=self.metric, target=target, status=status, why=why, severity=self.severity,
            owner=self.owner or "", justification=self.justification or "", unaccounted=self.unaccounted, **numbers,
        )  # fmt: skip


def short_name(path: str) -> str:
    """`out/NAME/targets/DEVICE` as NAME, any other folder by its own name: a report has no machine's paths."""
    parts = PurePath(path).parts
    return parts[-3] if len(parts) > 2 and parts[-2] == "targets" else parts[-1]


@dataclass(frozen=True)
class Verdict:
    """A gate's answer on one target, with the reason in a sentence and the cases that would decide it.

    quantity: what value and interval are of (`loss of accuracy`, `latency_p90_ms`); limit: what they are held against.
    n, units: cases, and how many were drawn independently. parts: of a gate with `by`, the answers on the whole
    (subgroup "") and on every subgroup; the numbers beside them are then those of the part that decides, which
    `subgroup` names. unaccounted: what the gate's margin lacks.
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
    units: int | None = None
    needed_n: int | None = None
    method: str = ""
    quantity: str = ""
    limit: float | None = None
    owner: str = ""
    justification: str = ""
    unaccounted: tuple[str, ...] = ()
    subgroup: str = ""
    parts: tuple[Verdict, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        data = asdict(self)
        data["interval"] = list(self.interval) if self.interval else None
        data["unaccounted"] = list(self.unaccounted)
        data["parts"] = [part.to_json() for part in self.parts]
        return data
