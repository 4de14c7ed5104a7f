"""Operators between layers that must not round what a layer in float gives."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .graph import has_weights

ROUNDED = frozenset({
    "Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Concat", "AvgPool", "ReduceMean", "Interpolate",
    "MVN", "NormalizeL2",
})  # fmt: skip
"""Operators without weights whose inputs NNCF 3.4 takes to 8 bits for OpenVINO's CPU plugin."""


def float_joins(model: Any, kept: Collection[str]) -> list[str]:
    """Names of such operators that read a layer in `kept`, directly or through one input's operators, and of those
    that read nothing but such, in execution order.

    NNCF leaves a layer in float and still rounds what an Add makes of its result: a U-Net with 13 of 14 layers in float
    diverged as one with 8, and no mix met a narrow limit. Of a chain of residual Adds, one whose own branch is in
    8 bits stays in 8 bits: else one early layer in float would take all of the chain along.
    """
    chosen = set(kept)
    if not chosen:
        return []
    found: list[str] = []
    makes_float: dict[str, bool] = {}
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if has_weights(node):
            makes_float[name] = name in chosen
            continue
        sources = [value.get_node() for value in node.input_values()]
        read = [item for item in sources if item.get_friendly_name() in makes_float]
        known = [makes_float[item.get_friendly_name()] for item in read]
        if kind == "Parameter":
            makes_float[name] = False
        elif not known:
            continue  # made of constants alone
        else:
            makes_float[name] = all(known) or any(_of_layer(item, chosen) for item in read)
            if makes_float[name] and kind in ROUNDED:
                found.append(name)
    return found


def _of_layer(node: Any, chosen: Collection[str]) -> bool:
    """The layer behind operators with one activation is one of these; a bias's Add is such an operator."""
    while not has_weights(node):
        values = [value.get_node() for value in node.input_values()]
        rest = [item for item in values if not _constant(item)]
        if len(rest) != 1:
            return False
        node = rest[0]
    return node.get_friendly_name() in chosen


def _constant(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Reshape", "Transpose") and node.get_input_size():
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")
