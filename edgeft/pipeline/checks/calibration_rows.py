"""Candidates that are made from calibration cases, in a recipe that leaves that split empty."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.pipeline.steps.candidates import Candidate, offered_variants
from edgeft.recipe.load import LoadedRecipe

KEY = ("data", "fractions", "calibration")


def check_calibration(loaded: LoadedRecipe, candidates: Sequence[Candidate]) -> None:
    """RecipeError where a candidate that will be tried needs calibration cases, and the fractions leave none.

    Splits that the data states get theirs carved out of train. A search tries what it can: it is refused only where
    `candidates` names nothing that could do without.
    """
    data = loaded.recipe.data
    if data.split or data.paths or data.fractions.calibration > 0:
        return
    static = next((item.name for item in candidates if item.variant and item.variant.needs_calibration), None)
    static = static or _searched(candidates)
    if static is not None:
        raise loaded.error(
            KEY,
            f"{static} is made from calibration cases, and 0 leaves none",
            "give them a share, 0.02 for instance, or name candidates that do without: "
            "candidates: [float, int8-dynamic]",
        )


def _searched(candidates: Sequence[Candidate]) -> str | None:
    """The first rung that a search may try, where all that `candidates` leaves it needs calibration."""
    for device in dict.fromkeys(item.device.name for item in candidates):
        floats = [item for item in candidates if item.device.name == device]
        named = floats[0].target.candidates
        if not floats[0].target.searches or named is None:
            continue
        offered = [offered_variants(item.exporter, item.target, item.device) or () for item in floats]
        left = [variant for variants in offered for variant in variants if variant.name in named]
        if left and all(variant.needs_calibration for variant in left):
            return left[0].name
    return None
