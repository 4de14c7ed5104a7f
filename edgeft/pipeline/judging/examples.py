"""Cases of a target's chosen artefact as pictures, where its task can draw them."""

from __future__ import annotations

from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.scoring import answered_rows
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.record import ExampleRow
from edgeft.task import DrawnTask


def draw_chosen(executor: Executor, trial: Trial | None, search_cases: int | None) -> list[ExampleRow]:
    """Of the search set, never of the sealed one: who looks at cases tunes on them."""
    task, prepared = executor.task, executor.prepared
    if trial is None or trial.outputs is None or prepared is None or not isinstance(task, DrawnTask):
        return []
    rows = answered_rows(executor, "search", search_cases, trial.outputs)
    return task.draw(load_arrays(trial.outputs.path / "outputs.npz"), rows, prepared.path)
