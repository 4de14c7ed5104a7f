"""One edit of surgery.json on one module: which layer types can be cut, and how each is."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch

from edgeft.models.surgery import Answers, AnyEdit, Heads, Layers, Misfit, Slice, Vocabulary
from edgeft.models.vocabulary import KeptEmbedding, KeptHead, keep_answers, keep_rows

HEAD_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
"""How attention modules of transformers call their number of heads."""
CONVS = torch.nn.modules.conv._ConvNd
TRANSPOSED = torch.nn.modules.conv._ConvTransposeNd
NORMS = (torch.nn.modules.batchnorm._NormBase,)
"""Batch and instance normalisation."""


def apply_edit(module: torch.nn.Module, edit: AnyEdit) -> None:
    """Cut the module that the edit names. Raises Misfit where it is not there, of another type or of another size."""
    place = _find(module, edit.module)
    if isinstance(edit, Slice):
        _slice(place, edit)
    elif isinstance(edit, Heads):
        _set_heads(place, edit)
    elif isinstance(edit, Layers):
        _keep_layers(module, place, edit)
    elif isinstance(edit, Answers):
        _keep_answers(module, place, edit)
    else:
        _keep_vocabulary(module, place, edit)


def head_count(module: torch.nn.Module) -> str | None:
    """Name of the attribute that holds an attention module's number of heads."""
    return next((name for name in HEAD_COUNTS if type(getattr(module, name, None)) is int), None)


def _find(module: torch.nn.Module, name: str) -> torch.nn.Module:
    known = dict(module.named_modules())
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise Misfit(f"this model has no such module{f'; did you mean {near[0]}?' if near else ''}")
    return known[name]


def _slice(layer: Any, edit: Slice) -> None:
    keep, out = edit.indices, edit.side == "out"
    if isinstance(layer, torch.nn.Linear) and not (isinstance(layer, KeptHead) and out):
        _cut_linear(layer, edit, keep)
    elif isinstance(layer, CONVS):
        _cut_conv(layer, edit, keep)
    elif isinstance(layer, NORMS) and out:
        _expect(layer.num_features, edit)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _take(layer, name, keep, 0)
        layer.num_features = len(keep)
    elif isinstance(layer, torch.nn.GroupNorm) and out:
        _expect(layer.num_channels, edit)
        _check_groups(edit, layer.num_groups)
        _take(layer, "weight", keep, 0)
        _take(layer, "bias", keep, 0)
        layer.num_channels = len(keep)
    elif isinstance(layer, torch.nn.PReLU) and out:
        _expect(layer.num_parameters, edit)
        _take(layer, "weight", keep, 0)
        layer.num_parameters = len(keep)
    else:
        raise Misfit(f"a {type(layer).__name__} cannot be cut on its {edit.side} side")


def _cut_linear(layer: Any, edit: Slice, keep: Sequence[int]) -> None:
    if edit.side == "out":
        _expect(layer.out_features, edit)
        _take(layer, "weight", keep, 0)
        _take(layer, "bias", keep, 0)
        layer.out_features = len(keep)
    else:
        _expect(layer.in_features, edit)
        _take(layer, "weight", keep, 1)
        layer.in_features = len(keep)


def _cut_conv(layer: Any, edit: Slice, keep: Sequence[int]) -> None:
    """Ordinary, transposed, depthwise (both sides are one) and grouped convolutions (as many kept of each group)."""
    out, transposed = edit.side == "out", isinstance(layer, TRANSPOSED)
    if layer.groups > 1 and layer.groups == layer.out_channels == layer.in_channels:
        _expect(layer.out_channels, edit)
        _take(layer, "weight", keep, 0)
        _take(layer, "bias", keep, 0)
        layer.groups = layer.in_channels = layer.out_channels = len(keep)
        return
    _expect(layer.out_channels if out else layer.in_channels, edit)
    within = out if transposed else not out  # this side's channels are stored per group
    inner = _check_groups(edit, layer.groups, alike=within)
    _take(layer, "weight", inner if within else keep, 1 if within else 0)
    if out:
        _take(layer, "bias", keep, 0)
        layer.out_channels = len(keep)
    else:
        layer.in_channels = len(keep)


def _check_groups(edit: Slice, groups: int, *, alike: bool = False) -> list[int]:
    """Places kept within the first group; Misfit where groups keep unequally many, or (alike) other places."""
    size = edit.of // groups
    parts: list[list[int]] = [[] for _ in range(groups)]
    for place in edit.indices:
        parts[place // size].append(place % size)
    if (
        any(len(part) != len(parts[0]) for part in parts)
        or not parts[0]
        or (alike and any(p != parts[0] for p in parts))
    ):
        raise Misfit(f"its {groups} channel groups must keep equally many channels")
    return parts[0]


def _set_heads(attention: Any, edit: Heads) -> None:
    name = head_count(attention)
    if name is None:
        raise Misfit(f"a {type(attention).__name__} has no number of heads")
    _expect(getattr(attention, name), edit)
    setattr(attention, name, edit.count)
    if type(getattr(attention, "all_head_size", None)) is int:
        attention.all_head_size = attention.all_head_size // edit.of * edit.count


def _keep_layers(module: torch.nn.Module, layers: torch.nn.Module, edit: Layers) -> None:
    if not isinstance(layers, torch.nn.ModuleList):
        raise Misfit(f"a {type(layers).__name__} is no list of layers")
    _expect(len(layers), edit)
    kept = [layers[place] for place in edit.indices]
    for index, layer in enumerate(kept):
        for part in layer.modules():
            if type(getattr(part, "layer_idx", None)) is int:
                part.layer_idx = index  # attention looks its cache up by this number
    module.set_submodule(edit.module, torch.nn.ModuleList(kept))
    config: Any = getattr(module, "config", None)
    if getattr(config, "num_hidden_layers", None) == edit.of:
        config.num_hidden_layers = len(kept)


def _keep_vocabulary(module: torch.nn.Module, table: torch.nn.Module, edit: Vocabulary) -> None:
    if not isinstance(table, torch.nn.Embedding):
        raise Misfit(f"a {type(table).__name__} is no embedding")
    _expect(table.of if isinstance(table, KeptEmbedding) else table.num_embeddings, edit)
    _expect_kept(table, edit)
    module.set_submodule(edit.module, keep_rows(table, edit.indices, edit.of, edit.unknown))


def _keep_answers(module: torch.nn.Module, head: torch.nn.Module, edit: Answers) -> None:
    if not isinstance(head, torch.nn.Linear):
        raise Misfit(f"a {type(head).__name__} is no linear layer")
    _expect(head.of if isinstance(head, KeptHead) else head.out_features, edit)
    _expect_kept(head, edit)
    module.set_submodule(edit.module, keep_answers(head, edit.indices, edit.of, edit.shift))


def _expect_kept(layer: torch.nn.Module, edit: Vocabulary | Answers) -> None:
    lost = isinstance(layer, KeptEmbedding | KeptHead) and set(edit.indices) - set(layer.kept)
    if lost:
        raise Misfit(f"id {min(lost)} was dropped before")


def _expect(size: int, edit: AnyEdit) -> None:
    if size != edit.of:
        raise Misfit(f"the edit is for {edit.of} of them, this model has {size}")


def _take(layer: torch.nn.Module, name: str, keep: Sequence[int], dim: int) -> None:
    """Keep places of a parameter or buffer along a dimension; absent ones (no bias) are left out."""
    tensor = getattr(layer, name, None)
    if tensor is None:
        return
    cut = tensor.detach().index_select(dim, torch.as_tensor(keep, dtype=torch.int64, device=tensor.device))
    if isinstance(tensor, torch.nn.Parameter):
        cut = torch.nn.Parameter(cut, requires_grad=tensor.requires_grad)
    setattr(layer, name, cut)
