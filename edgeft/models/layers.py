"""Which modules of a model are its head, and which linear layers lie below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

POOLERS = ("pooler", "pre_classifier", "pre_head")
"""Modules inside or beside a backbone that exist for the head alone: trained whole, never quantised."""


def is_transformers(module: torch.nn.Module) -> bool:
    """True for a transformers model, with or without a PEFT wrapper."""
    from transformers import PreTrainedModel

    return isinstance(unwrap(module), PreTrainedModel)


def predicts_tokens(module: torch.nn.Module) -> bool:
    """True for a transformers model that answers with a row of logits per token: a language model."""
    whole: Any = unwrap(module)
    return is_transformers(whole) and whole.get_output_embeddings() is not None


def unwrap(module: Any) -> Any:
    """The model itself below torch.compile, DistributedDataParallel, PEFT and Box wrappers."""
    while True:
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif hasattr(module, "get_base_model"):
            module = module.get_base_model()
        elif type(module).__name__ in ("DistributedDataParallel", "FullyShardedDataParallel"):
            module = module.module
        elif type(module).__name__ == "Box":
            module = module.net
        else:
            return module


def head_modules(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of the modules that belong to the task head, outermost first.

    transformers: everything with parameters outside the backbone, and poolers inside it. Plain torch: the last linear
    layer or convolution (transposed, too), which answers. A head is small and reads every feature at once, so 4-bit
    rounding costs most there (peft#1720).
    """
    backbone_name = str(getattr(module, "base_model_prefix", ""))
    backbone = getattr(module, backbone_name, None) if backbone_name else None
    if backbone is None or backbone is module:
        return answering_layers(module)[-1:]
    outside = [
        name
        for name, child in module.named_children()
        if name != backbone_name and any(True for _ in child.parameters())
    ]
    inside = [
        f"{backbone_name}.{name}"
        for name, child in backbone.named_modules()
        if name.rpartition(".")[2] in POOLERS and any(True for _ in child.parameters())
    ]
    return (*outside, *inside)


def linear_layers(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of all plain torch.nn.Linear layers in module order (subclasses have their own rules and are left out)."""
    import torch

    return tuple(name for name, child in module.named_modules() if type(child) is torch.nn.Linear)


def answering_layers(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of all linear layers and convolutions in module order: the last one of them makes the answer."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    return tuple(name for name, child in module.named_modules() if isinstance(child, kinds) or _is_four_bit(child))


def _is_four_bit(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "Linear4bit"


def plain_convolutions(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of the convolutions whose every output reads every input: those that a low-rank update can change and be
    merged into. Grouped (depthwise) and transposed ones are not among them."""
    import torch

    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    return tuple(name for name, child in module.named_modules() if isinstance(child, kinds) and child.groups == 1)


def below_heads(names: Sequence[str], heads: Sequence[str]) -> tuple[str, ...]:
    """The names that are neither a head nor inside one."""
    return tuple(name for name in names if not any(name == head or name.startswith(head + ".") for head in heads))


def body_linears(module: torch.nn.Module) -> tuple[str, ...]:
    """Linear layers outside the head: what NF4 quantises and `all-linear` adapts."""
    return below_heads(linear_layers(module), head_modules(module))
