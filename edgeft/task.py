"""The contract of a task: rows to canonical feeds, outputs to scores. It never sees a runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
UNSCORED = -100
"""Truth of a pixel or token that is not scored; torch's cross entropy leaves it out, too."""
TOKEN_ANSWERS = ("logprobs", "tokens", "truth")
"""What is kept of the answers of a language model, each (n, length): the log-probability of the next token (float32,
0 where there is none), the likeliest token (int32), and the next token itself (int32, UNSCORED where there is none)."""
CHUNK_BYTES = 128 << 20
"""Feeds made at a time: 900 photographs of 224 x 224, or any number of texts."""
ANSWER_BYTES = 512 << 20
"""Logits held at a time where every token has a row of them: 65 texts of 64 tokens with 32,000 classes."""
FILE_BYTES = 4 << 20
"""Taken for an encoded photograph where the artefact takes files: how long one is is known once it is read."""


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


def cases_per_chunk(prepared: Path) -> int:
    """How many cases' feeds fit into CHUNK_BYTES, by what the preprocessing declares, and where a vocabulary is
    predicted how many cases' logits fit into ANSWER_BYTES."""
    about = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
    sizes = {"length": int(about.get("length", 1))}
    file = FILE_BYTES if about.get("image", {}).get("embed") == "bytes" else 0
    fed = max(16, CHUNK_BYTES // max(1, file + case_bytes(declared_inputs(prepared), sizes)))
    answered = 4 * sizes["length"] * int(about.get("vocabulary", 0))
    return max(1, min(fed, ANSWER_BYTES // answered)) if answered else fed


def logits_at_once(task: Task, prepared: Path | None, asked: int) -> int:
    """Cases whose logits are held together: as many as asked for, where a vocabulary is predicted at most a chunk."""
    few = isinstance(task, SelfSupervisedTask) and prepared is not None
    return min(asked, cases_per_chunk(prepared)) if few and prepared is not None else asked


def class_axis(dimensions: int) -> int:
    """Where the classes are among so many axes of logits: (n, length, classes) of tokens, else (n, classes, ...)."""
    return 2 if dimensions == 3 else 1


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
class SelfSupervisedTask(Protocol):
    """A task whose truth lies in its own feeds, as a text's next tokens do: its rows have no label, and its outputs are
    kept by `reduce`, which sees their feeds, never by `keep`."""

    def truth(self, feeds: Arrays) -> NDArray[np.int64]:
        """(n, length): what each position is to answer; UNSCORED where nothing is asked."""
        ...

    def reduce(self, outputs: Arrays, feeds: Arrays) -> Arrays:
        """What of some cases' outputs is stored. feeds: of the same cases."""
        ...


@runtime_checkable
class DecidingTask(Protocol):
    """A task that says how outputs become an answer, for apps that do it themselves."""

    def decision(self) -> Mapping[str, Any]:
        """output (canonical name), activation, axis of the classes, rule; thresholds (label -> least) where frozen."""
        ...


@runtime_checkable
class ContinuingTask(Protocol):
    """A task that answers a text with what comes next, by asking the artefact again for each token."""

    def continue_text(self, ask: Callable[[Arrays], Arrays], text: str, prepared: Path) -> dict[str, Any]:
        """`continuation` and the likeliest next tokens. ask: canonical feeds of one case -> its outputs."""
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


def keep_answers(task: Task, outputs: Arrays, feeds: Arrays) -> Arrays:
    """What the task stores of some cases' outputs. feeds: of the same cases."""
    return task.reduce(outputs, feeds) if isinstance(task, SelfSupervisedTask) else task.keep(outputs)


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
