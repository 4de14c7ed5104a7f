"""Cases of a target's chosen artefact as pictures, where its task can draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgeft.device.protocol import ArtefactRefused
from edgeft.errors import DeviceError
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.scoring import answered_rows, source_arrays, split_rows
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.pipeline.steps.example_cases import example_spec
from edgeft.recipe.schema import Recipe
from edgeft.record import ExampleRow
from edgeft.task import ComparedTask, DrawnTask


def draw_chosen(executor: Executor, trial: Trial, recipe: Recipe) -> list[ExampleRow]:
    """Of the search set, never of the sealed one: who looks at cases tunes on them. Nothing is decided on pictures: a
    device that does not answer leaves some out."""
    task, prepared = executor.task, executor.prepared
    if trial.outputs is None or prepared is None or not isinstance(task, DrawnTask):
        return []
    rows = answered_rows(executor, "search", recipe.measure.search_cases, trial.outputs)
    ours = load_arrays(trial.outputs.path / "outputs.npz")
    examples = task.draw(ours, rows, prepared.path)
    if not examples or not isinstance(task, ComparedTask):
        return examples
    names = rows.column("id").to_pylist()
    places = [names.index(row.case) for row in examples]
    pair = [_take(arrays, places) for arrays in (ours, source_arrays(executor, "search", trial.outputs))]
    logits = _logits(executor, trial, recipe, [row.case for row in examples])
    return task.compare(examples, rows.take(places), prepared.path, pair[0], pair[1], logits)


def _logits(executor: Executor, trial: Trial, recipe: Recipe, cases: Sequence[str]) -> tuple[Any, Any] | None:
    """(the artefact's, its float form's) of the cases; None where it is its own float form or cannot be asked."""
    candidate = trial.candidate
    if candidate.variant is None or candidate.float_id not in executor.done:
        return None
    names = split_rows(executor, "search").column("id").to_pylist()
    places = [names.index(case) for case in cases]
    try:
        found = [
            load_arrays(executor.perform(example_spec(one, recipe, places)).path / "outputs.npz")
            for one in (candidate, replace(candidate, variant=None))
        ]
    except (ArtefactRefused, DeviceError) as error:
        executor.leave_out(f"the report shows no differences of logits: {error.what}")
        return None
    return (found[0]["logits"], found[1]["logits"]) if all("logits" in arrays for arrays in found) else None


def _take(arrays: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    return {name: array[list(places)] for name, array in arrays.items()}
