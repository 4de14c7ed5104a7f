"""Answers on disk to scores, always of exactly the cases that were answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from edgeft.artifact import Artifact
from edgeft.data.table import column_array
from edgeft.gate import Gate
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.steps.answers import thin, thin_index
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.task import Score


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
    return executor.task.score(load_arrays(outputs.path / "outputs.npz"), rows, _labels(executor))


def source_arrays(executor: Executor, split: str, outputs: Artifact) -> dict[str, Any]:
    """The source's answers to the cases that `outputs` answer; the source answered all of them or more."""
    return baseline_arrays(executor, f"source/{split}", outputs)


def baseline_arrays(executor: Executor, step: str, outputs: Artifact) -> dict[str, Any]:
    """The same of any step that answered every case of the split."""
    source = executor.done[step]
    index = thin_index(int(source.facts["n"]), int(outputs.facts["n"]))
    arrays = load_arrays(source.path / "outputs.npz")
    return dict(arrays) if index is None else {name: array[index] for name, array in arrays.items()}


def source_score(executor: Executor, split: str, most: int | None, outputs: Artifact) -> Score:
    """The source on the very cases that `outputs` answer."""
    rows = answered_rows(executor, split, most, outputs)
    return executor.task.score(source_arrays(executor, split, outputs), rows, _labels(executor))


def baseline_score(executor: Executor, step: str, rows: Any, outputs: Artifact) -> Score:
    """What that step answered, on the very rows that `outputs` answer."""
    return executor.task.score(baseline_arrays(executor, step, outputs), rows, _labels(executor))


def with_gated(score: Score, source: Score, rows: Any, gates: Iterable[Gate]) -> Score:
    """The score with the values of further metrics that gates name, where they can be had from the answers alone."""
    from edgeft.evaluate.values import metric_value

    truth = column_array(rows, "label")
    values = {gate.metric: metric_value(gate.metric, score, source, truth) for gate in gates if gate.needs_gate_set}
    known = {name: value for name, value in values.items() if value is not None}
    return replace(score, metrics={**score.metrics, **known})


def _labels(executor: Executor) -> tuple[str, ...]:
    return tuple(executor.dataset.facts["labels"]) if executor.dataset else ()
