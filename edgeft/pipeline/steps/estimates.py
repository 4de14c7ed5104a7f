"""What steps cost before their first run, and what each figure rests on; after it, a plan shows the last run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from edgeft.recipe.schema import Recipe

Estimate = Callable[[Mapping[str, int], int], Mapping[str, Any]]
"""(rows per split, bytes of the model) -> {seconds, memory_mb, disk_mb, basis}, each only where it can be said."""

PROCESS_MB = 900.0
"""A process that has imported torch and transformers and holds a small model; measured on Linux, torch 2.13."""
PROTOCOL_SECONDS = {"quick": 13.0, "full": 66.0}
"""The timed seconds of the protocol and the start-ups of its fresh processes."""


def whole_model(rows: Mapping[str, int], model_bytes: int) -> dict[str, Any]:
    """A step that writes the float weights anew."""
    megabytes = model_bytes / 1e6
    return {
        "memory_mb": round(3 * megabytes + PROCESS_MB),
        "disk_mb": round(megabytes, 1),
        "basis": "estimated: float weights on disk, three copies in memory",
    }


def quarter_model(rows: Mapping[str, int], model_bytes: int) -> dict[str, Any]:
    """A step that writes 8-bit weights."""
    megabytes = model_bytes / 1e6
    return {
        "memory_mb": round(2 * megabytes + PROCESS_MB / 3),
        "disk_mb": round(megabytes / 4, 1),
        "basis": "estimated: 8-bit weights on disk, two float copies in memory",
    }


def timing_protocol(recipe: Recipe) -> Literal["quick", "full"]:
    """How a step that takes times takes them; a plan without times (protocol none) has no such step."""
    if recipe.measure.protocol == "none":
        raise ValueError("measure.protocol is none: nothing is timed")
    return recipe.measure.protocol


def protocol_time(protocol: str) -> Estimate:
    """A latency measurement takes what its protocol asks for."""
    return lambda rows, model_bytes: {"seconds": PROTOCOL_SECONDS[protocol], "basis": f"the {protocol} protocol"}
