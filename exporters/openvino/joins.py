"""A model's nodes as `float_joins` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..joins import Place
from .graph import has_weights

ROUNDED = frozenset({
    "Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Concat", "AvgPool", "ReduceMean", "Interpolate",
    "MVN", "NormalizeL2",
})  # fmt: skip
"""Operators without weights whose inputs NNCF 3.4 takes to 8 bits for OpenVINO's CPU plugin."""


def places(model: Any) -> Iterator[Place]:
    """In execution order; what is made of constants alone is left out, and so is a bias among what an Add reads."""
    active: set[str] = set()
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        sources = (value.get_node().get_friendly_name() for value in node.input_values())
        reads = tuple(source for source in sources if source in active)
        if reads or kind == "Parameter":
            active.add(name)
            yield Place(name, has_weights(node), kind in ROUNDED, reads)
