"""Operators between layers that must not round what a layer in float gives, in any format's graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A node of a graph. layer: it has weights, and is compressed or kept. rounded: without weights, and the quantiser
    takes its inputs to 8 bits. reads: names of the nodes, or of the graph's inputs, that give its activations."""

    name: str
    layer: bool
    rounded: bool
    reads: tuple[str, ...]


def float_joins(places: Iterable[Place], kept: Collection[str]) -> list[str]:
    """Names of rounded operators that read a layer in `kept`, directly or through operators with one activation, and
    of those that read nothing but such; places and result in execution order.

    NNCF leaves a layer in float and still rounds what an Add makes of its result: a U-Net with 13 of 14 layers in float
    diverged as one with 8, and no mix met a narrow limit. Of a chain of residual Adds, one whose own branch is in
    8 bits stays in 8 bits: else one early layer in float would take all of the chain along.
    """
    found: list[str] = []
    gives_float: dict[str, bool] = {}
    behind: dict[str, str] = {}
    for place in places:
        if place.layer:
            gives_float[place.name], behind[place.name] = place.name in kept, place.name
            continue
        if len(place.reads) == 1:
            behind[place.name] = behind.get(place.reads[0], "")
        made = [gives_float.get(name, False) for name in place.reads]
        gives_float[place.name] = bool(made) and (all(made) or any(behind.get(name) in kept for name in place.reads))
        if place.rounded and gives_float[place.name]:
            found.append(place.name)
    return found
