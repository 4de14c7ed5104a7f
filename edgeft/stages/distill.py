"""Distillation: a smaller student learns from the fine-tuned model. Hinton et al. 2015, arXiv 1503.02531."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgeft.artifact import Artifact, Kind
from edgeft.stage import Context
from edgeft.stages.distilling.teaching import Teaching
from edgeft.stages.finetune.full import Full

if TYPE_CHECKING:
    from edgeft.stages.distilling.teacher import Teacher


class Distill(Full, Teaching):
    """Distillation: the model at this point learns from the fine-tuned one, its teacher."""

    name: ClassVar[str] = "distill"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"model": ("torch-model",), "teacher": ("torch-model",)}

    method: Literal["distill"] = Field("distill", exclude=True, description="Not written.")  # type: ignore[assignment]

    def load_teacher(self, inputs: Mapping[str, Artifact], ctx: Context, device: str) -> Teacher | None:
        """The fine-tuned model, with its adapter and in 4 bits if it was trained so."""
        from edgeft.stages.distilling.teacher import load_teacher

        return load_teacher(inputs["teacher"], inputs.get("teacher_adapter"), self, ctx, device)
