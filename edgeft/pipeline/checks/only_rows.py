"""Steps that train on part of the rows: each value they name must be there, before hours are spent on a wrong one."""

from __future__ import annotations

from edgeft.canonical import Facts
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.problems import did_you_mean
from edgeft.stages.finetune.only import absent


def check_only(loaded: LoadedRecipe, dataset: Facts) -> None:
    """RecipeError at the step whose `only:` names a value that no row of its train or validation split has."""
    for index, stage in enumerate(loaded.recipe.steps):
        for split in ("train", "validation"):
            about = dataset["splits"].get(split)
            if not stage.columns or about is None or not about["n"]:
                continue
            for column, value, there in absent(getattr(stage, "only", {}), about):
                raise loaded.error(
                    ("steps", index, stage.name, "only"),
                    f"no row of the {split} split has '{value}' in column '{column}'",
                    did_you_mean(value, there, "there are"),
                )
