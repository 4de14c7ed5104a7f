"""Gates as a recipe states them and verdicts as a build answers them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Status = Literal["PASS", "FAIL", "INCONCLUSIVE"]

SOURCE = "source"
"""What `no_worse_than` says for the unmerged fine-tuned model; anything else is the path of a released bundle."""
DATA_METRICS = frozenset({"accuracy", "macro_f1"})
"""Metrics of the gate set. A user's own metric (`file.py:function`) is one too."""
RATE_FAMILIES = ("sensitivity_", "specificity_")
RANKING_FAMILIES = ("auroc_", "average_precision_")
"""Beginnings of names that end in the label which counts as the finding, every other label being none."""
CALIBRATION_METRICS = frozenset({"ece", "brier"})
FLIP_RATE = "flip_rate"
"""Share of the cases whose answer is another than the source's, right or wrong."""
CASE_METRICS = ("mean_dice", "mean_iou", "pixel_accuracy", "dice_", "brier")
"""Metrics, or beginnings of their names, that are means of one value in [0, 1] per case."""
LATENCY_METRICS = frozenset(
    {"latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "cold_load_ms", "first_inference_ms"}
)
RESOURCE_METRICS = LATENCY_METRICS | {"artifact_mb", "peak_memory_mb"}
LOWER_IS_BETTER = RESOURCE_METRICS | CALIBRATION_METRICS | {FLIP_RATE}


class Gate(BaseModel):
    """One condition every shipped artefact must meet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str = Field(
        description="accuracy, macro_f1, sensitivity_LABEL, specificity_LABEL, auroc_LABEL, average_precision_LABEL, "
        "ece, brier, flip_rate, mean_dice, mean_iou, pixel_accuracy, dice_LABEL, latency_p50_ms, latency_p90_ms, "
        "latency_p99_ms, cold_load_ms, first_inference_ms, peak_memory_mb, artifact_mb, or your own as "
        "file.py:function."
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
        None, gt=0, lt=1,
        description="With at_most: hold the share of cases whose value is worse than the source's by more than this, "
        "instead of the mean. For metrics with a value per case, such as mean_dice.",
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
        given = [name for name in ("at_least", "at_most", "no_worse_than") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of at_least, at_most, no_worse_than")
        if self.no_worse_than and self.margin is None:
            raise ValueError("no_worse_than needs a margin")
        if self.margin is not None and not self.no_worse_than:
            raise ValueError("margin goes with no_worse_than")
        if self.at_least is not None and self.metric in LOWER_IS_BETTER:
            raise ValueError(f"{self.metric} is better when lower: use at_most")
        self._check_resource()
        self._check_data()
        return self

    def _check_resource(self) -> None:
        if self.metric not in RESOURCE_METRICS:
            return
        if self.no_worse_than:
            raise ValueError(f"{self.metric} has no source value to compare with: use at_most")
        if self.at_most is not None and self.at_most <= 0:
            raise ValueError(f"{self.metric} is never {self.at_most:g} or less: no artefact could pass")
        if self.by is not None:
            raise ValueError(f"{self.metric} does not depend on the case: by goes with metrics of the data")
        if self.unit is not None:
            raise ValueError(f"{self.metric} does not depend on the case: unit goes with metrics of the data")

    def _check_data(self) -> None:
        if self.metric == FLIP_RATE and self.no_worse_than:
            raise ValueError("flip_rate compares with the source by itself: use at_most")
        if self.cases_losing is None:
            return
        if self.at_most is None:
            raise ValueError("cases_losing needs at_most: the share of cases that may lose so much")
        if not (self.metric.startswith(CASE_METRICS) or ":" in self.metric):
            raise ValueError(
                f"{self.metric} has no value per case to lose: cases_losing goes with mean_dice and its like"
            )

    @property
    def needs_gate_set(self) -> bool:
        """True for what is decided on the sealed gate set."""
        return self.metric not in RESOURCE_METRICS

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
            return f"{self.metric} no worse than {self.baseline} by {self.margin:g}{every}"
        if self.at_least is not None:
            return f"{self.metric} at least {self.at_least:g}{every}"
        subject = self.metric if self.cases_losing is None else f"cases losing {self.cases_losing:g} of {self.metric}"
        return f"{subject} at most {self.at_most:g}{every}"

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
    parts: of a gate with `by`, the answers on the whole (subgroup "") and on every subgroup; the numbers beside them
    are then those of the part that decides, which `subgroup` names. unaccounted: what the gate's margin lacks.
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
