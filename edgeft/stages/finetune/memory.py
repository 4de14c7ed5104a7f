"""Gradient checkpointing: only when activations would not fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgeft.errors import StepError
from edgeft.models.layers import unwrap

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context

BYTES_PER_UNIT = 34
SHARE = 0.6
"""Of the free GPU memory; the rest is for gradients, moments, workspaces and fragmentation."""


def needs_checkpointing(module: torch.nn.Module, batch: int, ctx: Context, device: str) -> bool:
    """True when a transformer's activations would take more than SHARE of the free GPU memory.

    Korthikanti et al. 2022 (arXiv 2205.05198): s*b*h*(34 + 5*a*s/h) bytes per layer in 16-bit arithmetic; with fused
    attention the second term is never stored. On CPU the answer is no: there it only costs time.
    """
    import torch

    config = getattr(unwrap(module), "config", None)
    if not device.startswith("cuda") or config is None or ctx.prepared is None:
        return False
    hidden, layers = getattr(config, "hidden_size", 0), getattr(config, "num_hidden_layers", 0)
    stated = json.loads((ctx.prepared / "preprocess.json").read_text(encoding="utf-8"))
    needed = int(stated.get("length", 512)) * batch * hidden * layers * BYTES_PER_UNIT
    return bool(needed > SHARE * torch.cuda.mem_get_info(device)[0])


def enable_checkpointing(module: torch.nn.Module) -> None:
    """Recompute activations in the backward pass. Raises StepError for models that cannot."""
    whole = unwrap(module)
    settings = {"use_reentrant": False}
    if hasattr(whole, "activation_checkpointing_enable"):
        whole.activation_checkpointing_enable(activation_checkpointing_kwargs=settings)
    elif hasattr(whole, "gradient_checkpointing_enable"):
        whole.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
    else:
        raise StepError(
            "this model has no gradient checkpointing", hint="set gradient_checkpointing: false and lower batch_size"
        )
