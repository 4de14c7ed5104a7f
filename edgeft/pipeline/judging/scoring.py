"""Answers on disk to scores, always of exactly the cases that were answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from edgeft.artifact import Artifact
from edgeft.data.table import column_array
from edgeft.gate import Gate, OperatingPoint
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.steps.answers import thin, thin_index
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.task import MeasuringTask, Score, Task


def split_rows(executor: Executor, split: str, *cases: int | None) -> Any:
    """Rows of a split of this build's dataset, thinned once per number given, as the steps thin them."""
    from edgeft.data.table import read_split

    if executor.dataset is None:
        raise ValueError("the data step has not run")
    rows = read_split(executor.dataset.path / f"{split}.parquet")
    for most in cases:
        rows = thin(rows, most)
    return rows


def answered_rows(executor: Executor, split: str, most: int | None, outputs: Artifact) -> Any:
    """The rows that a step's outputs answer: those of the split, at most `most`, and of these facts["n"]."""
    return split_rows(executor, split, most, int(outputs.facts["n"]))


def score_outputs(executor: Executor, outputs: Artifact, split: str, most: int | None) -> Score:
    """Score a step's outputs.npz against the rows they answer."""
    rows = answered_rows(executor, split, most, outputs)
    return _score(executor, load_arrays(outputs.path / "outputs.npz"), rows, ())


def score_both(
    executor: Executor, outputs: Artifact, split: str, rows: Any, gates: Collection[Gate]
) -> tuple[Score, Score]:
    """(the artefact's, the source's) on the rows that `outputs` answer, with all that the gates name besides: values
    that are computed for a gate alone, and the thresholds, frozen once for both."""
    thresholds = frozen_thresholds(executor, gates)
    ours = _score(executor, load_arrays(outputs.path / "outputs.npz"), rows, gates)
    theirs = baseline_score(executor, f"source/{split}", rows, outputs, gates)
    return replace(ours, thresholds=thresholds), replace(theirs, thresholds=thresholds)


def source_arrays(executor: Executor, split: str, outputs: Artifact) -> dict[str, Any]:
    """The source's answers to the cases that `outputs` answer; the source answered all of them or more."""
    return baseline_arrays(executor, f"source/{split}", outputs)


def baseline_arrays(executor: Executor, step: str, outputs: Artifact) -> dict[str, Any]:
    """The same of any step that answered every case of the split."""
    source = executor.done[step]
    index = thin_index(int(source.facts["n"]), int(outputs.facts["n"]))
    arrays = load_arrays(source.path / "outputs.npz")
    return dict(arrays) if index is None else {name: array[index] for name, array in arrays.items()}


def baseline_score(
    executor: Executor, step: str, rows: Any, outputs: Artifact, gates: Collection[Gate] = ()
) -> Score:  # fmt: skip
    """What that step answered, on the very rows that `outputs` answer; scored once for all that answer those."""
    key = (step, int(outputs.facts["n"]), tuple(gates))
    if key not in executor.scored:
        executor.scored[key] = _score(executor, baseline_arrays(executor, step, outputs), rows, gates)
    return executor.scored[key]


def _score(executor: Executor, arrays: Mapping[str, Any], rows: Any, gates: Collection[Gate]) -> Score:
    labels, task = _labels(executor), executor.task
    score = task.score(arrays, rows, labels)
    return replace(score, cases={**score.cases, **measured(task, arrays, rows, labels, gates)})


def measured(
    task: Task, arrays: Mapping[str, Any], rows: Any, labels: Sequence[str], gates: Collection[Gate]
) -> Mapping[str, Any]:
    """Values per case that the task computes only where a gate names them."""
    wanted = [gate for gate in gates if gate.needs_gate_set]
    return task.measure(arrays, rows, labels, wanted) if wanted and isinstance(task, MeasuringTask) else {}


def frozen_thresholds(executor: Executor, gates: Collection[Gate]) -> dict[OperatingPoint, float]:
    """The source's threshold at each gate's operating point, by its own answers on the search set: the same for every
    artefact, and fixed before the gate set is opened. A point that no search case can fix is left out: its gate cannot
    be decided."""
    from edgeft.evaluate.findings import freeze_threshold
    from edgeft.evaluate.statistics import Undecidable

    points = {gate.point for gate in gates if gate.point is not None}
    if not points or "source/search" not in executor.done:
        return {}
    source = executor.done["source/search"]
    rows = split_rows(executor, "search", int(source.facts["n"]))
    score = executor.task.score(load_arrays(source.path / "outputs.npz"), rows, _labels(executor))
    found = {}
    for point in sorted(points, key=lambda point: (point.label, point.rate, point.value)):
        with suppress(Undecidable):
            found[point] = freeze_threshold(score, column_array(rows, "label"), point)
    return found


def with_gated(score: Score, source: Score, rows: Any, gates: Iterable[Gate]) -> Score:
    """The score with the values of further metrics that gates name, where they can be had from the answers alone."""
    from edgeft.evaluate.values import metric_value

    truth = column_array(rows, "label")
    values = {gate.subject: metric_value(gate, score, source, truth) for gate in gates if gate.needs_gate_set}
    known = {name: value for name, value in values.items() if value is not None}
    return replace(score, metrics={**score.metrics, **known})


def _labels(executor: Executor) -> tuple[str, ...]:
    return tuple(executor.dataset.facts["labels"]) if executor.dataset else ()
