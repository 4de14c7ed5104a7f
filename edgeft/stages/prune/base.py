"""What every pruning method has in common: measure, cut, heal, save, and prove that the file gives the model back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.record import PruneRow, ScoreRow, TrainingRow, WidthRow
from edgeft.stage import Context, Stage
from edgeft.stages.finetune.augment import Augment

if TYPE_CHECKING:
    import torch

    from edgeft.stages.prune.subject import Subject
    from edgeft.task import Task


@dataclass
class Cut:
    """What one round of cutting did. widths: of the parts it changed; masks: weight name -> kept places, for zeros that
    healing must leave alone."""

    importance: str
    widths: list[WidthRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Prune(Stage):
    """Remove the least important parts of the network, then heal it by a short fine-tune."""

    name: ClassVar[str] = "prune"
    makes: ClassVar[Kind] = "torch-model"
    keeps_source: ClassVar[bool] = True
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft", "accelerate")
    packages: ClassVar[Mapping[str, str]] = {}
    """Module a method needs beyond the core -> the extra that brings it."""
    gathers: ClassVar[tuple[str, ...]] = ()
    """Splits from which importance is measured."""
    shrinks: ClassVar[bool] = True
    """Whether the network gets smaller, or only its zeros more."""

    method: str = Field(description="structured, depth, vocabulary, magnitude or wanda.")
    heal_epochs: float | None = Field(
        None,
        gt=0,
        le=10000,
        description="Heal by fine-tuning for so many passes over the train split; default: no heal.",
    )
    heal_steps: int | None = Field(None, ge=1, description="Optimiser steps of healing, instead of heal_epochs.")
    heal_method: Literal["full", "lora"] = Field(
        "full", description="Heal all weights, or by LoRA adapters that are merged at once."
    )
    heal_rank: int = Field(16, ge=1, le=4096, description="Rank of the adapters with heal_method: lora.")
    heal_learning_rate: float | None = Field(
        None, gt=0, description="Highest learning rate of healing; default 5e-5 for full, 1e-3 for lora."
    )
    heal_distil: bool = Field(
        False, description="While healing, learn from the unpruned model's classes as much as from the labels."
    )
    heal_augment: Augment | None = Field(
        None, description="Images: flips, shifts and brightness while healing, as the model was trained."
    )
    heal_dice: float = Field(
        0.0, ge=0, description="Segmentation: weight of the Dice loss beside cross-entropy while healing."
    )
    heal_batch_size: int = Field(32, ge=1, le=65536, description="Examples per optimiser step of healing.")
    keep_zeros: bool | None = Field(
        None, description="Healing leaves zeroed weights of an earlier step at zero; default: where there is one."
    )
    device: str = Field("auto", description="Where to heal: auto, cpu or cuda.", pattern="^(auto|cpu|cuda)$")

    @model_validator(mode="after")
    def _one_length(self) -> Prune:
        if self.heal_epochs is not None and self.heal_steps is not None:
            raise ValueError("give heal_epochs or heal_steps, not both")
        if not self.shrinks and self.heals and self.heal_method == "lora":
            raise ValueError("heal_method: lora would fill the zeros when it is merged; use full")
        if self.keep_zeros and self.fills_zeros:
            raise ValueError("keep_zeros: adapters change every weight when they are merged; use heal_method: full")
        asked = {"heal_distil": self.heal_distil, "heal_augment": self.heal_augment, "heal_dice": self.heal_dice}
        idle = next((key for key, value in asked.items() if value), None)
        if idle and not self.heals:
            raise ValueError(f"{idle} goes with heal_epochs or heal_steps")
        return self

    @property
    def heals(self) -> bool:
        """Whether weights are trained after the cut."""
        return self.heal_epochs is not None or self.heal_steps is not None

    @property
    def trains(self) -> bool:
        """Only where it heals: importance reads rows and changes nothing."""
        return self.heals

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        """Validation for the scores, train where it heals, and what importance is measured on."""
        wanted = {"validation", *self.gathers, *(["train"] if self.heals else [])}
        return tuple(name for name in ("train", "validation", "calibration") if name in wanted)

    @property
    def together(self) -> bool:  # type: ignore[override]
        """All processes of a multi-GPU launch heal together."""
        return self.heals

    def refusal(self, task: Task, gpus: Sequence[str]) -> tuple[str, str, str] | None:
        """Options of healing that need pictures, or masks, where the task has none."""
        if self.heal_augment and self.heal_augment.active and "image" not in task.columns:
            return "heal_augment", f"heal_augment is for images: {task.name} has none", "leave heal_augment out"
        if self.heal_dice and "mean_dice" not in task.metrics:
            return "heal_dice", f"heal_dice is for segmentation: {task.name} has no masks", "leave heal_dice out"
        return super().refusal(task, gpus)

    @property
    def fills_zeros(self) -> bool:
        """Adapters of healing are added to every weight."""
        return self.heals and self.heal_method == "lora"

    @property
    def rounds(self) -> int:
        """How often it cuts and heals."""
        return 1

    def cut(self, subject: Subject, number: int, ctx: Context) -> Cut:
        """Cut subject.module in place, through `edgeft.models.surgery.operate` where shapes change. number: from 0."""
        raise NotImplementedError(type(self).__name__)

    def run(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        """Write the pruned model; facts carry the PruneRow under `prune`. Raises StepError."""
        import torch

        from edgeft.models.save import save_model
        from edgeft.stages.finetune.train import is_main_process
        from edgeft.stages.prune.heal import heal
        from edgeft.stages.prune.subject import Subject, check_reload
        from edgeft.stages.zeros import find_zeros

        torch.set_num_threads(max(1, ctx.threads))
        torch.manual_seed(ctx.seed)
        subject = Subject.load(inputs["model"], ctx)
        before = subject.size(squeezed=not self.shrinks)
        scores, heals, cuts = subject.score("before"), [], []
        for number in range(self.rounds):
            ctx.progress(number, self.rounds, "round", "cutting")
            cuts.append(self.cut(subject, number, ctx))
            mark = f" {number + 1}" if self.rounds > 1 else ""
            scores += subject.score(f"pruned{mark}")
            if self.heals:
                earlier = find_zeros(subject.module) if self.keep_zeros else {}
                heals.append(heal(subject, self, ctx, number, {**cuts[-1].masks, **earlier}))
                scores += subject.score(f"healed{mark}")
        facts: dict[str, Any] = {}
        if is_main_process():
            facts = dict(save_model(subject.module, inputs["model"], out))
            check_reload(subject, out, facts, ctx)
        row = self.describe(subject, before, cuts, scores, heals, ctx)
        return {**facts, "prune": row.model_dump(mode="json")}

    def describe(
        self,
        subject: Subject,
        before: tuple[int, int, int],
        cuts: list[Cut],
        scores: list[ScoreRow],
        heals: list[TrainingRow],
        ctx: Context,
    ) -> PruneRow:
        """The report's row. before: subject.size() at the start."""
        after = subject.size(squeezed=not self.shrinks)
        first: dict[tuple[str, str], WidthRow] = {}
        for row in (row for cut in cuts for row in cut.widths):
            known = first.setdefault((row.part, row.kind), row)
            first[row.part, row.kind] = known.model_copy(update={"after": row.after})
        return PruneRow(
            step=ctx.step,
            method=self.method,
            importance=cuts[0].importance,
            parameters=(before[0], after[0]),
            macs=(before[1], after[1]) if self.shrinks else None,
            compressed=None if self.shrinks else (before[2], after[2]),
            widths=list(first.values()),
            metric=ctx.task.headline,
            n=subject.cases,
            scores=scores,
            heals=heals,
            notes=list(dict.fromkeys(note for cut in cuts for note in cut.notes)),
        )

    def estimate(self, rows: Mapping[str, int], model_bytes: int) -> dict[str, Any]:
        """Healing costs what fine-tuning costs; the rest is a few passes over validation."""
        from edgeft.stages.finetune.full import Full

        if not self.heals:
            return {"memory_mb": round(3 * model_bytes / 1e6 + 900), "disk_mb": round(model_bytes / 1e6, 1),
                    "basis": "estimated: the unpruned weights, three copies in memory"}  # fmt: skip
        like = Full(epochs=self.heal_epochs or 1, max_steps=self.heal_steps, batch_size=self.heal_batch_size)
        return like.estimate(rows, model_bytes)


def refuse(what: str, ctx: Context, hint: str) -> StepError:
    """An error at this step."""
    return StepError(what, where=f"step {ctx.step}", hint=hint)
