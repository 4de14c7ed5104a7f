"""The contract of a task: rows to canonical feeds, outputs to scores. It never sees a runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeft.canonical import Facts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
else:
    Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """Scores of n cases. metrics: name -> value. correct: (n,) bool. predictions: (n,) int.
    confusion: (classes, classes) counts, rows true, columns predicted."""

    metrics: Mapping[str, float]
    correct: NDArray[np.bool_]
    predictions: NDArray[np.int64]
    confusion: NDArray[np.int64]


class Task(Protocol):
    """Everything task-specific on the host side."""

    name: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: str
    """The metric shown first and used for selection."""

    def prepare(
        self, model: Path, splits: Mapping[str, Path], labels: Sequence[str], serve: Mapping[str, Any], out: Path
    ) -> Facts:
        """Write preprocess.json and the files it names into `out`; facts carry truncation counts per split."""
        ...

    def feeds(self, rows: pa.Table, prepared: Path) -> Arrays:
        """Canonical name -> (n, ...) array, padded to the serve shape stated in preprocess.json."""
        ...

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """Compare outputs (`logits` (n, classes) float32) with the rows' labels."""
        ...

    def answer(self, outputs: Arrays, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Outputs as a person reads them, one dictionary per case."""
        ...
