"""Low-rank adapters on frozen weights. Hu et al. 2021, arXiv 2106.09685."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.stage import Context
from edgeft.stages.finetune.base import FineTune
from edgeft.task import SelfSupervisedTask

if TYPE_CHECKING:
    import torch

    from edgeft.task import Task


def trains_head(task: Task) -> bool:
    """Whether a head trains beside the adapters, so that it may be a fresh one; that of a language model does not."""
    return not isinstance(task, SelfSupervisedTask)


class Lora(FineTune):
    """LoRA fine-tuning on the float model."""

    version: ClassVar[int] = 2
    makes: ClassVar[Kind] = "peft-adapter"

    method: Literal["lora"] = Field("lora", description="Low-rank adapters on the float weights.")
    rank: int = Field(16, ge=1, le=4096, description="Rank of the update of each adapted layer.")
    alpha: float = Field(32, gt=0, description="The update is scaled by alpha/rank (rslora: alpha/sqrt(rank)).")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout before the adapters.")
    target_modules: Literal["all-linear", "all-layers"] | tuple[str, ...] = Field(
        "all-linear",
        description="Layers to adapt, by name or end of name; all-linear: every linear layer below the head; "
        "all-layers: convolutions, too, except grouped and transposed ones.",
    )
    rslora: bool = Field(False, description="Rank-stabilised scaling (Kalajdzievski 2023, arXiv 2312.03732).")
    dora: bool = Field(False, description="Train magnitude and direction apart (Liu et al. 2024, arXiv 2402.09353).")
    init: Literal["default", "gaussian", "orthogonal"] = Field(
        "default", description="Start of the adapters; each starts as a zero update."
    )

    base_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Of the frozen weights while training; auto: on a GPU 16 bits, in which their products are "
        "computed anyway, else float32. What trains is float32 always.",
    )

    @property
    def fills_zeros(self) -> bool:
        """The update is merged into every weight."""
        return True

    def build(self, model: Artifact, ctx: Context, device: str) -> torch.nn.Module:
        """The base with fresh adapters and a trainable head."""
        from edgeft.stages.finetune.adapters import add_adapters

        module = add_adapters(self.load_base(model, ctx, device), self, ctx.step)
        for parameter in module.parameters():
            if parameter.requires_grad:  # a step of 1e-4 is lost on a weight of 8 bits' precision
                parameter.data = parameter.data.float()
        return module

    def foresee(self, model: Artifact, ctx: Context) -> Facts:
        """The layers it will adapt."""
        from edgeft.stages.finetune.adapters import target_layers

        return {"layers": list(target_layers(self.load_base(model, ctx, "cpu"), self.target_modules, ctx.step))}

    def load_base(self, model: Artifact, ctx: Context, device: str) -> torch.nn.Module:
        """The frozen base model."""
        from edgeft.models.load import load_model

        return load_model(
            model, labels=ctx.labels, task=ctx.task.name, device=device, quantise=None, seed=ctx.seed,
            new_head=trains_head(ctx.task), dtype=self.frozen_dtype(device),
        )  # fmt: skip

    def refusal(self, task: Task, gpus: Sequence[str]) -> tuple[str, str, str] | None:
        """As of every method; and 16-bit weights where there is no GPU."""
        on_cpu = self.device == "cpu" or not gpus
        return ("base_dtype", *self._sixteen_bits()) if on_cpu and self._is_halved() else super().refusal(task, gpus)

    def choose_device(self) -> str:
        """As every method chooses. StepError for 16-bit weights on a GPU box whose torch was built for the CPU."""
        device = super().choose_device()
        if self._is_halved() and not device.startswith("cuda"):
            what, hint = self._sixteen_bits()
            raise StepError(what, hint=hint)
        return device

    def _is_halved(self) -> bool:
        return self.base_dtype in ("bfloat16", "float16")

    def _sixteen_bits(self) -> tuple[str, str]:
        what = f"base_dtype: {self.base_dtype} is for a GPU, and this step trains on the CPU, in float32"
        return what, "leave base_dtype out: 16 bits on a GPU, float32 on a CPU"

    def frozen_dtype(self, device: str) -> str:
        """base_dtype with `auto` resolved for the device."""
        return self.mixed_precision(device) if self.base_dtype == "auto" else self.base_dtype

    def save(self, module: torch.nn.Module, model: Artifact, out: Path, ctx: Context, device: str) -> Facts:
        """The adapter, with what its base was while it trained."""
        from edgeft.models.adapter import save_adapter

        about: dict[str, Any] = {**self.base_precision(device), "labels": list(ctx.labels)}
        save_adapter(module, out, about)
        return {"base": {"path": str(model.path), "digest": model.digest}, "method": self.method, **about}

    def base_precision(self, device: str) -> dict[str, Any]:
        """quantised, compute_dtype, double_quant of the base during training."""
        return {"quantised": None, "compute_dtype": "float32", "double_quant": True}

    def trained_fraction(self) -> float:
        """About 2*rank/width of the body for all-linear; 6% covers small encoders at rank 16."""
        return min(1.0, 0.06 * self.rank / 16)
