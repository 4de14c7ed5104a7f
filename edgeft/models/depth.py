"""A shallower copy of a transformer: some of its layers, the rest left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.layers import is_transformers, unwrap
from edgeft.models.surgery import Layers, operate, replay, spans, surgery_of

if TYPE_CHECKING:
    import torch

LISTED = ("layer_types",)
"""Configuration entries with one value per layer."""


def keep_layers(module: torch.nn.Module, count: int, where: str) -> tuple[int, ...]:
    """Leave `count` evenly spaced layers in the model, in place, and say which (0-based). Raises StepError.

    Layer i of the copy is the layer whose output it is later compared with (i x depth / count, rounded), so 3 of 6 are
    1, 3 and 5. The configuration follows, so the copy saves and reloads as an ordinary model of that depth.
    """
    whole: Any = unwrap(module)
    if not is_transformers(module):
        raise StepError(
            "student_layers: a model given as code builds its own layers",
            where=where,
            hint="build the smaller network in the code, or leave student_layers out",
        )
    depth = int(getattr(whole.config, "num_hidden_layers", 0) or 0)
    places = [
        (parent, name)
        for parent in whole.modules()
        for name, child in parent.named_children()
        if type(child).__name__ == "ModuleList" and len(child) == depth and depth > 0
    ]
    if len(places) != 1:
        raise StepError(
            f"student_layers: this model has no single list of layers (its configuration says {depth or 'no number'})",
            where=where,
            hint="give a smaller checkpoint as `student:` instead",
        )
    if count >= depth:
        raise StepError(
            f"student_layers: {count} asked for, the model has {depth} already",
            where=where,
            hint=f"give fewer than {depth}, or leave student_layers out",
        )
    kept = spaced_layers(count, depth)
    parent, name = places[0]
    prefix = next(path for path, child in whole.named_modules() if child is parent)
    keep_places(whole, f"{prefix}.{name}".lstrip("."), kept)
    return kept


def keep_places(module: Any, name: str, kept: Sequence[int]) -> None:
    """Leave the layers at `kept` (0-based) in the list called `name`, in place.

    The configuration follows, so the model saves and reloads as an ordinary one of that depth. Where earlier edits
    name layers by their place (a pruned model), or no configuration counts them (code), it is an edit among those.
    """
    depth = len(module.get_submodule(name))
    config = getattr(module, "config", None)
    edit = Layers(module=name, of=depth, keep=spans(kept))
    if surgery_of(module).edits or getattr(config, "num_hidden_layers", None) != depth:
        operate(module, [edit])
        return
    replay(module, [edit])
    for entry in LISTED:
        values = getattr(config, entry, None)
        if isinstance(values, list) and len(values) == depth:
            setattr(config, entry, [values[index] for index in kept])


def spaced_layers(count: int, depth: int) -> tuple[int, ...]:
    """The last layer of each of `count` equal blocks of `depth` layers, 0-based."""
    return tuple((2 * index * depth + count) // (2 * count) - 1 for index in range(1, count + 1))
