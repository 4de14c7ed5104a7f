"""The contract of a task: rows to canonical feeds, outputs to scores. It never sees a runtime."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from edgeft.artifact import TensorSpec
from edgeft.canonical import Facts
from edgeft.gate import Gate, OperatingPoint

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from edgeft.medical.sliding import Plan
    from edgeft.record import ExampleRow

    Arrays = Mapping[str, NDArray[Any]]
else:
    Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """Scores of n cases. metrics: name -> value. correct: (n,) bool. predictions: (n,) int.
    confusion: (classes, classes) counts, rows true, columns predicted.
    cases: metric -> (n,) float64 values, in [0, 1] or in the metric's unit, whose mean is the metric, for metrics that
    have a value per case. labels: what predictions, confusion and probabilities count by. probabilities: (n, classes)
    float64, of classifiers. present, called: (n, classes) bool, where a case has any number of labels: those it has and
    those it is answered with; predictions are then equal where the answers are. thresholds: of the source, frozen.
    """

    metrics: Mapping[str, float]
    correct: NDArray[np.bool_]
    predictions: NDArray[np.int64]
    confusion: NDArray[np.int64]
    cases: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    probabilities: NDArray[np.float64] | None = None
    present: NDArray[np.bool_] | None = None
    called: NDArray[np.bool_] | None = None
    thresholds: Mapping[OperatingPoint, float] = field(default_factory=dict)


NO_THRESHOLDS: Mapping[str, float] = MappingProxyType({})
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def declared_inputs(prepared: Path | None) -> tuple[TensorSpec, ...]:
    """The canonical feeds that preprocessing makes: `inputs` in its preprocess.json.

    A dimension is a size, or `batch` or `length`. A bare name there is int64 (batch, length), as are a text's feeds
    before there is any preprocessing (None). ValueError or KeyError for a file that is none.
    """
    stated: list[Any] = list(TEXT_INPUTS)
    if prepared is not None:
        stated = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))["inputs"]
    return tuple(
        TensorSpec(item, "int64", ("batch", "length"))
        if isinstance(item, str)
        else TensorSpec(item["name"], item["dtype"], tuple(item["shape"]))
        for item in stated
    )


def case_bytes(inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> int:
    """Bytes of one case's feeds. sizes: of the symbols, batch apart."""
    total = 0
    for spec in inputs:
        count = {"uint8": 1, "int8": 1, "float16": 2, "float32": 4, "int32": 4}.get(spec.dtype, 8)
        for extent in spec.shape[1:]:
            count *= extent if isinstance(extent, int) else sizes.get(extent, 1)
        total += count
    return total


def has_metric(task: Task, name: str) -> bool:
    """Whether a task gives a metric of this name, for some label at least."""
    return name in (*task.metrics, *task.gated) or any(name.startswith(family) for family in task.families)


@runtime_checkable
class DenseTask(Protocol):
    """A task whose truth is a class per pixel."""

    def masks(self, rows: pa.Table, prepared: Path) -> Any:
        """int64 (n, height, width) of the rows, at the size the network answers; -100: not scored."""
        ...


@runtime_checkable
class SeveralTask(Protocol):
    """A task whose cases have any number of the labels, none too; `label` of its rows is the sum of 2 ** place."""

    def targets(self, rows: pa.Table, labels: Sequence[str]) -> NDArray[np.float32]:
        """(n, labels): 1 where a case has the label, else 0."""
        ...


@runtime_checkable
class DecidingTask(Protocol):
    """A task that says how outputs become an answer, for apps that do it themselves."""

    def decision(self) -> Mapping[str, Any]:
        """output (canonical name), activation, axis of the classes, rule; thresholds (label -> least) where frozen."""
        ...


@runtime_checkable
class ProbableTask(Protocol):
    """A task whose answer is how probable each label is."""

    def probabilities(self, outputs: Arrays, labels: Sequence[str]) -> NDArray[np.float64]:
        """(n, classes), each in [0, 1], in the order of `labels`."""
        ...


@runtime_checkable
class MeasuringTask(Protocol):
    """A task with metrics per case that are computed only where a gate names them."""

    def measure(
        self, outputs: Arrays, rows: pa.Table, labels: Sequence[str], wanted: Collection[Gate]
    ) -> Mapping[str, NDArray[np.float64]]:
        """`gate.values` -> (n,) values per case, of those gates whose metric it can measure; StepError where the data
        lack what that takes. outputs: as `keep` left them."""
        ...


@runtime_checkable
class DrawnTask(Protocol):
    """A task whose cases can be shown as pictures."""

    def draw(self, outputs: Arrays, rows: pa.Table, prepared: Path) -> list[ExampleRow]:
        """The worst, the median and the best case. outputs: as `keep` left them."""
        ...


@runtime_checkable
class ComparedTask(Protocol):
    """A drawn task whose pictures can show what compression changed."""

    def compare(
        self,
        examples: Sequence[ExampleRow],
        rows: pa.Table,
        prepared: Path,
        ours: Arrays,
        source: Arrays,
        logits: tuple[NDArray[Any], NDArray[Any]] | None,
    ) -> list[ExampleRow]:
        """The examples with more pictures. rows: theirs, one each; ours, source: their answers as `keep` left them;
        logits: of the artefact and of its float form, None where the artefact is its own float form."""
        ...


@runtime_checkable
class WindowedTask(Protocol):
    """A task whose network sees a window of a case at a time: `feeds` of cases are those of some of their windows."""

    def windows(self, rows: pa.Table, prepared: Path) -> pa.Table:
        """Rows that are windows, a few of each case, the same every time; `feeds`, `masks` and `score` take them."""
        ...

    def draw_windows(self, rows: pa.Table, prepared: Path, keys: Sequence[Sequence[int]]) -> pa.Table:
        """One window of each case for training, drawn by the row's key and nothing else."""
        ...

    def whole(self, rows: pa.Table, prepared: Path) -> Iterator[Arrays]:
        """Each case as its one canonical feed, without a batch and of its own extents."""
        ...

    def plan(self, prepared: Path, batch: int, *, whole: bool = False) -> Plan:
        """How windows are placed and their outputs blended. whole: those that would be skipped are run, too."""
        ...

    def largest(self, prepared: Path) -> tuple[int, int, int]:
        """Extents that answers of different cases are padded to, to be one array."""
        ...


def case_rows(task: Task, rows: pa.Table, prepared: Path) -> pa.Table:
    """The rows whose feeds `task.feeds(rows)` are: their windows where the network sees those, else the rows."""
    return task.windows(rows, prepared) if isinstance(task, WindowedTask) else rows


class Task(Protocol):
    """Everything task-specific on the host side."""

    name: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    gated: tuple[str, ...]
    """Further metrics that a gate may name; they are computed only then."""
    families: tuple[str, ...]
    """How the names of metrics begin of which there is one per label (`dice_`)."""
    headline: str
    """The metric shown first and used for selection."""

    def prepare(
        self, model: Path, splits: Mapping[str, Path], labels: Sequence[str], serve: Mapping[str, Any], out: Path
    ) -> Facts:
        """Write preprocess.json and the files it names into `out`; facts carry truncation counts per split."""
        ...

    def feeds(self, rows: pa.Table, prepared: Path) -> Arrays:
        """Canonical name -> (n, ...) array of the dtypes and shapes that preprocess.json declares."""
        ...

    def plain(self, feeds: Arrays, prepared: Path) -> Arrays:
        """Canonical feeds as the torch model takes them, computed on the host without torch or a runtime."""
        ...

    def keep(self, outputs: Arrays) -> Arrays:
        """What of some cases' outputs is stored: enough to score them and to tell two artefacts apart."""
        ...

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """Compare outputs, as a runtime gave them or as `keep` left them, with the rows' truth."""
        ...

    def answer(
        self, outputs: Arrays, labels: Sequence[str], thresholds: Mapping[str, float] = NO_THRESHOLDS
    ) -> list[dict[str, Any]]:
        """Outputs as a person reads them, one dictionary per case. thresholds: label -> least probability, as
        postprocess.json has them."""
        ...
