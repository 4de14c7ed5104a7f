"""Weights that a step set to zero: what later training leaves alone, and the proof that it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeft.errors import StepError

if TYPE_CHECKING:
    import torch


def find_zeros(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weight name -> mask, bool, False where it is zero; of linear layers and convolutions that train and have zeros.

    Trained and random weights are practically never exactly zero, so these are the pruned ones.
    """
    import torch

    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    found = {}
    for name, child in module.named_modules():
        weight = child._parameters.get("weight") if isinstance(child, kinds) else None
        if weight is not None and weight.requires_grad and bool((weight == 0).any()):
            found[f"{name}.weight"] = (weight != 0).detach()
    return found


@contextmanager
def held_zeros(module: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Zero the gradients of masked places meanwhile. With AdamW a weight at zero whose gradient is always zero stays
    exactly zero: its moments are zero and decoupled decay multiplies."""
    handles = []
    for name, mask in masks.items():
        weight = module.get_parameter(name)
        kept = mask.to(weight.device)
        handles.append(weight.register_hook(lambda gradient, kept=kept: gradient * kept))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_zeros(module: torch.nn.Module, masks: Mapping[str, torch.Tensor], step: str) -> None:
    """Every masked place is still zero. Raises StepError."""
    for name, mask in masks.items():
        weight = module.get_parameter(name).detach()
        if bool((weight[~mask.to(weight.device)] != 0).any()):
            what = f"training moved pruned weights of {name} away from zero"
            raise StepError(what, where=f"step {step}", hint="please report it")
