"""A recipe's calibration cases as feeds of any ONNX file that takes them: reads and splits the data, trains nothing."""

from __future__ import annotations

import io
from typing import Any

from edgeft import plugins
from edgeft.artifact import Signature
from edgeft.errors import RecipeError
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.given.inputs import resolve_inputs
from edgeft.pipeline.host import threads
from edgeft.pipeline.judging.scoring import split_rows
from edgeft.pipeline.progress import open_events
from edgeft.pipeline.steps.answers import thin
from edgeft.pipeline.steps.trunk import plan_trunk
from edgeft.recipe.load import load_recipe
from edgeft.store import Store


def calibration_feeds(recipe: str, signature: Signature, most: int) -> tuple[dict[str, Any], str]:
    """(canonical feeds (n, ...), what they are in words). The data and preprocessing steps come from the store.

    RecipeError where the recipe has no calibration split, or its task does not give an input of the model.
    """
    store, loaded = Store(), load_recipe(recipe)
    task = plugins.load("tasks", loaded.recipe.model.task)()
    inputs = resolve_inputs(loaded, store, offline=False)
    executor = Executor(
        store, loaded.recipe.name, loaded.recipe.seed, task, open_events("quiet", io.StringIO()), threads()
    )
    for spec in plan_trunk(loaded, inputs, store).specs:
        if spec.id in ("data", "prepare"):
            executor.perform(spec)
    if executor.dataset is None or executor.prepared is None or "calibration" not in executor.dataset.facts["splits"]:
        raise RecipeError("the recipe's data has no calibration split", where=recipe, hint="data.fractions.calibration")
    rows = split_rows(executor, "calibration")
    feeds = task.feeds(thin(rows, most), executor.prepared.path)
    if missing := sorted(set(signature.inputs) - set(feeds)):
        raise RecipeError(
            f"the recipe's task gives no '{missing[0]}', which the model takes",
            where=recipe,
            hint=f"it gives: {', '.join(sorted(feeds))}",
        )
    chosen = {name: feeds[name] for name in signature.inputs}
    return chosen, f"{min(rows.num_rows, most)} of {rows.num_rows} calibration cases of {loaded.recipe.name}"
