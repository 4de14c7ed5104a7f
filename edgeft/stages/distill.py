"""Distillation: a smaller student learns from the fine-tuned model. Hinton et al. 2015, arXiv 1503.02531."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts
from edgeft.stage import Context
from edgeft.stages.distilling.teaching import Teaching
from edgeft.stages.finetune.full import Full

if TYPE_CHECKING:
    import torch

    from edgeft.stages.distilling.teacher import Teacher


class Distill(Full, Teaching):
    """Distillation: a smaller or pruned student learns from the fine-tuned model, its teacher."""

    name: ClassVar[str] = "distill"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"model": ("torch-model",), "teacher": ("torch-model",)}
    models: ClassVar[tuple[str, ...]] = ("student",)
    keeps_source: ClassVar[bool] = True

    method: Literal["distill"] = Field("distill", exclude=True, description="Not written.")  # type: ignore[assignment]
    student: str | None = Field(
        None,
        description="Another checkpoint to train, a folder or Hugging Face id with the same tokenizer; default: the "
        "model at this point of the recipe, such as a pruned one.",
    )
    student_revision: str | None = Field(None, description="Commit of a student that is a Hugging Face id.")
    student_layers: int | None = Field(
        None, ge=1, le=1000, description="Train a copy with only so many of the model's layers, evenly spaced."
    )

    @model_validator(mode="after")
    def _one_student(self) -> Distill:
        if self.student and self.student_layers:
            raise ValueError("give student or student_layers, not both")
        if self.student_revision and not self.student:
            raise ValueError("student_revision goes with student")
        return self

    def run(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        """Write the trained student; facts carry the TrainingRow under `training`, what it learnt from included."""
        given = inputs.get("student")
        facts = dict(super().run({**inputs, "model": given} if given else inputs, out, ctx))
        if given and facts.get("form") == "transformers":
            from edgeft.models.save import copy_tokenizer

            copy_tokenizer(inputs["model"].path, out)  # the same tokenizer, where the student came without files of it
        if self.student_layers:
            facts["training"]["teacher"]["student_layers"] = self.kept_layers(inputs["model"])
        return facts

    def build(self, model: Artifact, ctx: Context, device: str) -> torch.nn.Module:
        """The student, all of it open to training unless `trainable` says less."""
        module = super().build(model, ctx, device)
        if self.student_layers:
            from edgeft.models.depth import keep_layers

            keep_layers(module, self.student_layers, f"step {ctx.step}")
        return module

    def kept_layers(self, model: Artifact) -> list[int]:
        """Which layers of the model the copy has, 0-based."""
        from transformers import AutoConfig

        from edgeft.models.depth import spaced_layers

        config = AutoConfig.from_pretrained(str(model.path), local_files_only=True, trust_remote_code=False)
        return list(spaced_layers(self.student_layers or 0, int(config.num_hidden_layers)))

    def load_teacher(self, inputs: Mapping[str, Artifact], ctx: Context, device: str) -> Teacher | None:
        """The fine-tuned model, with its adapter and in 4 bits if it was trained so."""
        from edgeft.stages.distilling.teacher import load_teacher

        return load_teacher(inputs["teacher"], inputs.get("teacher_adapter"), self, ctx, device)
