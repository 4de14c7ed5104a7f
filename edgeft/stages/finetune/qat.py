"""Quantisation-aware fine-tuning: weights that survive rounding. Jacob et al. 2018, arXiv 1712.05877."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.stage import Context
from edgeft.stages.finetune.base import FineTune

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from edgeft.stages.distilling.teacher import Teacher
    from edgeft.stages.finetune.fake_quant import Rounding

NAMES = {
    "case": "one range per case",
    "token": "one range per token",
    "static": "one fixed range",
    "float": "not rounded",
}


class Qat(FineTune):
    """Quantisation-aware fine-tuning: trains under the rounding of int8, and leaves a float model that exporters round.

    For when compression after training fails its gate: it comes last in `steps`, after a fine-tune or on a fine-tuned
    model. Gates go on comparing with the model before it.
    """

    name: ClassVar[str] = "finetune"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"model": ("torch-model",), "teacher": ("torch-model",)}
    makes: ClassVar[Kind] = "torch-model"
    tools: ClassVar[tuple[str, ...]] = (*FineTune.tools, "torchao")
    packages: ClassVar[Mapping[str, str]] = {"torchao": "qat"}
    keeps_source: ClassVar[bool] = True

    method: Literal["qat"] = Field("qat", description="Trains under simulated rounding.")
    learning_rate: float = Field(2e-5, gt=0, description="Highest learning rate.")
    epochs: float = Field(1, gt=0, le=10000, description="Passes over the train split.")
    activations: Literal["case", "token", "static", "float"] = Field(
        "case",
        description="8-bit ranges of what enters a layer. case: of each case, as ONNX Runtime's dynamic int8; token: "
        "of each token, as LiteRT's and ExecuTorch's; static: one for all, as every static form; float: weight-only.",
    )
    weight_bits: int = Field(8, ge=2, le=8, description="Weights, symmetric; 7: where an exporter reduces the range.")
    group_size: int | None = Field(
        None, ge=2, description="Weights that share a scale; default: all of an output channel."
    )
    teacher_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the loss that is KL to the fine-tuned float model; the labels have the rest.",
    )
    rank: int | None = Field(
        None, ge=1, le=4096, description="Train low-rank updates instead of the weights; what is rounded is the sum."
    )
    alpha: float = Field(32, gt=0, description="The low-rank update is scaled by alpha/rank.")

    @model_validator(mode="after")
    def _alpha_goes_with_rank(self) -> Qat:
        if "alpha" in self.model_fields_set and self.rank is None:
            raise ValueError("alpha goes with rank")
        return self

    @property
    def fills_zeros(self) -> bool:
        """Low-rank updates are added to every weight."""
        return self.rank is not None

    def rounding(self) -> Rounding:
        """What of the recipe the layers need."""
        from edgeft.stages.finetune.fake_quant import Rounding

        return Rounding(self.activations, self.weight_bits, self.group_size)

    def build(self, model: Artifact, ctx: Context, device: str) -> torch.nn.Module:
        """The float model with its layers rounded as they compute."""
        from edgeft.models.load import load_model

        _check_torchao(ctx.step)
        from edgeft.stages.finetune import fake_quant

        module = load_model(model, labels=ctx.labels, task=ctx.task.name, device=device, quantise=None, seed=ctx.seed)
        names = fake_quant.layers_to_round(module)
        if not names:
            raise StepError("this model has no linear layer and no convolution to round", where=f"step {ctx.step}")
        self._check_groups(module, names, ctx)
        if self.rank is not None:
            from edgeft.models.layers import head_modules, predicts_tokens

            module.requires_grad_(False)
            fresh = () if predicts_tokens(module) else head_modules(module)  # a language model's is trained already
            for head in fresh:
                module.get_submodule(head).requires_grad_(True)
        fake_quant.insert(module, names, self.rounding(), None if self.rank is None else (self.rank, self.alpha))
        return module

    def load_teacher(self, inputs: Mapping[str, Artifact], ctx: Context, device: str) -> Teacher | None:
        """The fine-tuned float model: what gates compare with is what the rounded one should answer like."""
        if not self.teacher_weight:
            return None
        from edgeft.stages.distilling.teacher import load_teacher
        from edgeft.stages.distilling.teaching import Teaching

        teaching = Teaching(temperature=1.0, task_weight=1 - self.teacher_weight, logits_weight=self.teacher_weight)
        return load_teacher(inputs["teacher"], inputs.get("teacher_adapter"), teaching, ctx, device)

    def save(self, module: torch.nn.Module, model: Artifact, out: Path, ctx: Context, device: str) -> Facts:
        """The float model with the learnt weights; facts say what was simulated under `rounding`."""
        from edgeft.models.save import save_model
        from edgeft.stages.finetune import fake_quant

        names = fake_quant.rounded_layers(module)
        fake_quant.remove(module)
        rounding = {"layers": len(names), "weight_bits": self.weight_bits, "activations": NAMES[self.activations]}
        return {**save_model(module, model, out), "rounding": rounding}

    def trained_fraction(self) -> float:
        """All, or about 2*rank/width of the body."""
        return 1.0 if self.rank is None else min(1.0, 0.06 * self.rank / 16)

    def _check_groups(self, module: torch.nn.Module, names: tuple[str, ...], ctx: Context) -> None:
        for name in names if self.group_size else ():
            inputs = module.get_submodule(name).weight[0].numel()
            if inputs % (self.group_size or 1):
                raise StepError(
                    f"group_size: {self.group_size} does not divide the {inputs} inputs of {name}",
                    where=f"step {ctx.step}",
                    hint="leave it out for one scale per output channel",
                )


def _check_torchao(where: str) -> None:
    from importlib.util import find_spec

    if find_spec("torchao") is None:
        raise StepError(
            "method: qat needs torchao, which is not installed", where=f"step {where}", hint="pip install 'edgeft[qat]'"
        )
