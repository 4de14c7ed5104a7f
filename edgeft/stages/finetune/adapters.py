"""Fresh LoRA adapters on a loaded base: which layers they go to, and the head that trains whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.layers import (
    below_heads,
    body_linears,
    head_modules,
    is_transformers,
    plain_convolutions,
    predicts_tokens,
)

if TYPE_CHECKING:
    import torch

    from edgeft.stages.finetune.lora import Lora

ADAPTABLE = ("Linear", "Linear4bit", "Conv1d", "Conv2d", "Conv3d", "Embedding", "Conv1D")
"""Layer types LoRA can adapt and merge; convolutions only where they are not grouped."""


def add_adapters(module: torch.nn.Module, options: Lora, where: str) -> torch.nn.Module:
    """The module with adapters, all else frozen but the head. Raises StepError for a layer it cannot adapt."""
    from peft import LoraConfig, get_peft_model

    from edgeft.models.box import Box, boxed

    heads, targets = head_modules(module), target_layers(module, options.target_modules, where)
    whole, kind = is_transformers(module), "SEQ_CLS" if hasattr(module, "num_labels") else None
    if predicts_tokens(module):
        # Its head is trained already, is as large as the vocabulary, and may be the embedding itself: it stays frozen.
        heads, kind = (), "CAUSAL_LM"
    if not whole:
        module, heads, targets = Box(module), tuple(map(boxed, heads)), tuple(map(boxed, targets))
    config = LoraConfig(
        task_type=kind if whole else None,
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(targets),
        modules_to_save=list(heads) or None,
        use_rslora=options.rslora,
        use_dora=options.dora,
        init_lora_weights=True if options.init == "default" else options.init,
    )
    wrapped: Any = get_peft_model(module, config)
    return wrapped


def target_layers(module: torch.nn.Module, wanted: str | Sequence[str], where: str) -> tuple[str, ...]:
    """Full names of the layers to adapt. `wanted`: all-linear, all-layers (linear layers and convolutions), or names
    and ends of names, each of which must match."""
    heads = head_modules(module)
    if isinstance(wanted, str):
        every = _all_layers(module, heads, where, convolutions=wanted == "all-layers")
        _refuse_twice_named(module, every, where)
        return every
    known = below_heads(
        [name for name, child in module.named_modules() if name and type(child).__name__ in ADAPTABLE], heads
    )
    found: list[str] = []
    for entry in wanted:
        matches = [name for name in known if is_called(name, entry)]
        _refuse_unmergeable(module, entry, heads, where)
        if not matches:
            raise _no_such_layer(entry, known, heads, where)
        found += [name for name in matches if name not in found]
    _refuse_twice_named(module, found, where)
    return tuple(found)


def _refuse_twice_named(module: torch.nn.Module, names: Iterable[str], where: str) -> None:
    """A layer that two modules hold is replaced in one of them alone: it may be the other that runs.

    Where one module holds it, and is itself known by two names (DynUNet's blocks), both names lead to the adapter.
    """
    places: dict[int, list[str]] = {}
    for owner, parent in module.named_modules():  # each once, whatever its names
        for own, child in parent._modules.items():
            places.setdefault(id(child), []).append(f"{owner}.{own}" if owner else own)
    for name in names:
        held = places.get(id(module.get_submodule(name)), [])
        if len(held) > 1:
            what = f"the layer '{held[0]}' is also '{held[1]}': an adapter would replace one, and perhaps never run"
            raise StepError(what, where=where, hint="method: full, or leave such layers out of target_modules")


def _all_layers(module: torch.nn.Module, heads: Sequence[str], where: str, *, convolutions: bool) -> tuple[str, ...]:
    linears = body_linears(module) or below_heads(_quantised(module), heads)
    found = below_heads(plain_convolutions(module), heads)
    if convolutions and found:
        return (*linears, *found)
    if not linears:
        raise StepError(
            f"this model has no linear layer{' or convolution' * convolutions} below its head to adapt",
            where=where,
            hint=f"it has {len(found)} convolutions: target_modules: all-layers" if found else "use method: full",
        )
    return linears


def _refuse_unmergeable(module: torch.nn.Module, entry: str, heads: Sequence[str], where: str) -> None:
    """A low-rank update of these could be trained and never be merged: better refused than found out later."""
    for name in below_heads([name for name, _ in module.named_modules() if is_called(name, entry)], heads):
        layer = module.get_submodule(name)
        kind = type(layer).__name__
        grouped = getattr(layer, "groups", 1) > 1
        if grouped or kind.startswith("ConvTranspose"):
            why = f"a convolution in {layer.groups} groups" if grouped else "a transposed convolution"
            raise StepError(
                f"target_modules: '{name}' is {why}, whose low-rank update cannot be merged",
                where=where,
                hint="leave it out: target_modules: all-layers takes what can be merged",
            )


def is_called(name: str, entry: str) -> bool:
    """Whether an entry of `target_modules` means the layer of this full name: by all of it, or by its end."""
    return name == entry or name.endswith("." + entry)


def _quantised(module: torch.nn.Module) -> tuple[str, ...]:
    return tuple(name for name, child in module.named_modules() if type(child).__name__ == "Linear4bit")


def _no_such_layer(entry: str, known: Sequence[str], heads: Sequence[str], where: str) -> StepError:
    if any(is_called(head, entry) for head in heads):
        return StepError(
            f"target_modules: '{entry}' is the head, which trains whole already",
            where=where,
            hint="take it out of target_modules",
        )
    what = f"target_modules: no layer of this model is called '{entry}'"
    return StepError(what, where=where, hint=near_layers(entry, known))


def near_layers(entry: str, known: Sequence[str]) -> str:
    """The hint for an entry that means none of the known layers: near names, or what there is."""
    ends = list(dict.fromkeys(name.rpartition(".")[2] for name in known))
    parts = entry.count(".") + 1
    alike = list(dict.fromkeys(".".join(name.split(".")[-parts:]) for name in known))
    near = next((found for names in (ends, alike, known) if (found := get_close_matches(entry, names, n=3))), [])
    near = near or [name for name in alike if name.rpartition(".")[2] == entry.rpartition(".")[2]][:3]
    return f"did you mean {' or '.join(near)}?" if near else f"layers of this model: {', '.join(ends[:12])}"
