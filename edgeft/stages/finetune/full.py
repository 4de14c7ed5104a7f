"""Fine-tuning of the weights themselves: all of them, the head alone, or the last layers and the head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.stage import Context
from edgeft.stages.finetune.base import FineTune

if TYPE_CHECKING:
    import torch


class Full(FineTune):
    """Fine-tuning of the weights themselves, all or the last ones."""

    makes: ClassVar[Kind] = "torch-model"

    method: Literal["full"] = Field("full", description="Trains the weights themselves.")
    learning_rate: float = Field(5e-5, gt=0, description="Highest learning rate.")
    trainable: Literal["all", "head", "last_n"] = Field(
        "all", description="What trains: everything, the head alone, or the last_n layers and the head."
    )
    last_n: int | None = Field(None, ge=1, description="Layers to train with trainable: last_n.")

    @model_validator(mode="after")
    def _last_n_goes_with(self) -> Full:
        if (self.trainable == "last_n") != (self.last_n is not None):
            raise ValueError("trainable: last_n needs last_n: a number, and the number needs trainable: last_n")
        return self

    def build(self, model: Artifact, ctx: Context, device: str) -> torch.nn.Module:
        """The float model with `requires_grad` where it trains."""
        from edgeft.models.load import load_model

        module = load_model(
            model, labels=ctx.labels, task=ctx.task.name, device=device, quantise=None, seed=ctx.seed, new_head=True
        )
        if self.trainable != "all":
            freeze(module, self.last_n or 0, ctx.step)
        return module

    def save(self, module: torch.nn.Module, model: Artifact, out: Path, ctx: Context, device: str) -> Facts:
        """The whole model in canonical form."""
        from edgeft.models.save import save_model

        return save_model(module, model, out)

    def trained_fraction(self) -> float:
        """All, a quarter or a sliver of the parameters."""
        return {"all": 1.0, "last_n": 0.25, "head": 0.01}[self.trainable]


def freeze(module: torch.nn.Module, last: int, where: str) -> None:
    """Freeze all but the head and the last `last` layers of the deepest-known layer list. Raises StepError."""
    from edgeft.models.layers import head_modules

    open_parts: list[Any] = [module.get_submodule(name) for name in head_modules(module)]
    if last:
        layers = layer_list(module)
        if layers is None or last > len(layers):
            have = f"has {len(layers)} layers" if layers is not None else "has no list of layers"
            raise StepError(
                f"trainable: last_n asks for {last} layers, this model {have}",
                where=where,
                hint="use trainable: all or head",
            )
        open_parts += list(layers[-last:])
    module.requires_grad_(False)
    for part in open_parts:
        part.requires_grad_(True)


def layer_list(module: torch.nn.Module) -> Any:
    """The longest ModuleList of the model: its encoder layers; None without one."""
    import torch

    lists = [child for child in module.modules() if isinstance(child, torch.nn.ModuleList)]
    return max(lists, key=len) if lists else None
