"""Tasks whose rows have no label."""

from __future__ import annotations

from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Data
from edgeft.task import SelfSupervisedTask, Task


def data_of(data: Data, task: Task) -> Data:
    """The recipe's `data:`, with an empty `label` where the task has none: no such column is then asked for."""
    return data.model_copy(update={"label": ""}) if isinstance(task, SelfSupervisedTask) else data


def check_unlabelled(loaded: LoadedRecipe, task: Task) -> None:
    """RecipeError for what a task without labels cannot take: labels, and a tokenizer in the artefact."""
    if not isinstance(task, SelfSupervisedTask):
        return
    if loaded.recipe.data.labels is not None:
        what = f"{task.name} has no labels: a text's next tokens are its truth"
        raise loaded.error(("data", "labels"), what, "leave it out, or task: text-classification")
    if loaded.recipe.serve.embed_preprocessing == "string":
        what = (
            f"{task.name} takes tokens: an app continues a text by them, which a tokenizer in the artefact would hide"
        )
        raise loaded.error(("serve", "embed_preprocessing"), what, "leave it out")
