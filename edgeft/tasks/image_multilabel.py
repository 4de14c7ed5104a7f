"""Multi-label image classification: an image in, any number of the labels out, each decided by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.data.labels import SEPARATOR
from edgeft.data.table import column_array
from edgeft.errors import StepError
from edgeft.metric_names import LABEL_ACCURACY, RANKING_FAMILIES, RATE_FAMILIES
from edgeft.task import NO_THRESHOLDS, Arrays, Score
from edgeft.tasks.classification import checked_logits
from edgeft.tasks.image_classification import ImageTask

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EVEN = 0.5
"""Probability from which on a label is answered that has no threshold."""
NONE = "none"
"""How an answer without any label is spelt."""


class ImageMultilabel(ImageTask):
    """Sigmoid of `logits` (n, labels), label by label; the label column of the data holds `a|b`, empty for none.

    A label is answered from a probability of 0.5 on, or from the threshold that a gate froze on the source.
    """

    name = "image-multilabel"
    metrics: tuple[str, ...] = (LABEL_ACCURACY, "accuracy")
    gated: tuple[str, ...] = ("brier", "flip_rate")
    families: tuple[str, ...] = (*RATE_FAMILIES, *RANKING_FAMILIES)
    headline = LABEL_ACCURACY

    def decision(self) -> Mapping[str, Any]:
        """Sigmoid, then each label by itself."""
        rule = f"each label whose probability is at least its threshold, or {EVEN} where it has none"
        return {"output": "logits", "activation": "sigmoid", "axis": 1, "rule": rule}

    def targets(self, rows: pa.Table, labels: Sequence[str]) -> NDArray[np.float32]:
        """(n, labels) of 0 and 1."""
        import numpy as np

        return np.asarray(read_labels(rows, labels), np.float32)

    def keep(self, outputs: Arrays) -> Arrays:
        """All outputs."""
        return outputs

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """accuracy: cases with every label right; label_accuracy: the share of labels that are right, a mean over
        cases, as is brier. Sensitivity, areas and their like are of `present`, `called` and `probabilities`."""
        import numpy as np

        chance = sigmoid(checked_logits(outputs, labels))
        present = read_labels(rows, labels)
        if len(present) != len(chance) or not len(present):
            raise StepError(f"{len(chance)} outputs for {len(present)} rows")
        called = chance >= EVEN
        right = called == present
        cases: dict[str, Floats] = {
            LABEL_ACCURACY: right.mean(axis=1), "brier": ((chance - present) ** 2).mean(axis=1)
        }  # fmt: skip
        correct = np.asarray(right.all(axis=1), dtype=bool)
        return Score(
            metrics={LABEL_ACCURACY: float(right.mean()), "accuracy": float(correct.mean())},
            correct=correct,
            predictions=called.astype(np.int64) @ (1 << np.arange(len(labels), dtype=np.int64)),
            confusion=np.zeros((0, 0), np.int64),
            cases=cases,
            labels=tuple(labels),
            probabilities=chance,
            present=present,
            called=called,
        )

    def answer(
        self, outputs: Arrays, labels: Sequence[str], thresholds: Mapping[str, float] = NO_THRESHOLDS
    ) -> list[dict[str, Any]]:
        """Per case: `labels` that are answered, `label` as the data spell them, and every label's probability."""
        found = []
        for row in sigmoid(checked_logits(outputs, labels)).tolist():
            named = [name for name, chance in zip(labels, row, strict=True) if chance >= thresholds.get(name, EVEN)]
            chances = dict(zip(labels, row, strict=True))
            found.append({"label": SEPARATOR.join(named) or NONE, "labels": named, "probabilities": chances})
        return found


def read_labels(rows: pa.Table, labels: Sequence[str]) -> NDArray[np.bool_]:
    """(n, labels): whether each row has each label. StepError for a number that no labels make."""
    import numpy as np

    codes = column_array(rows, "label").astype(np.int64)
    if len(codes) and (codes.min() < 0 or codes.max() >= 1 << len(labels)):
        raise StepError(f"a row's labels are none of the {len(labels)} there are")
    return np.asarray(((codes[:, None] >> np.arange(len(labels))) & 1) > 0, dtype=bool)


def sigmoid(logits: NDArray[np.floating[Any]]) -> Floats:
    """Probabilities in float64, without overflow."""
    from scipy.special import expit

    found: Floats = expit(logits.astype("float64"))
    return found
