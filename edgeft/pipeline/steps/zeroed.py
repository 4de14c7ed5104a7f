"""Zeros that pruning made, followed through the trunk: what trains later leaves them alone, or is refused."""

from __future__ import annotations

from edgeft.recipe.load import LoadedRecipe
from edgeft.stage import Stage


def settle_zeros(stage: Stage, zeros: bool, loaded: LoadedRecipe, where: tuple[str | int, ...]) -> tuple[Stage, bool]:
    """(the stage, told whether weights before it are zero on purpose; whether some are after it).

    RecipeError where the stage would fill them and the recipe does not say that it may.
    """
    asked = getattr(stage, "keep_zeros", None)
    if zeros and asked is None and stage.fills_zeros:
        raise loaded.error(
            where,
            f"{stage.name} would fill the zeros that prune makes before it: low-rank updates change every weight",
            "train the weights themselves (method: full), which keeps zeros; or prune last; or allow it by "
            "keep_zeros: false",
        )
    if "keep_zeros" in type(stage).model_fields and asked is None:
        stage = stage.model_copy(update={"keep_zeros": zeros})
    kept = zeros and not (stage.trains and asked is False)
    return stage, kept or stage.zeroes
