"""Text classification: a text in, one of the labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.task import NO_THRESHOLDS, Arrays, Score
from edgeft.tasks.classification import DECISION, FAMILIES, GATED, METRICS, answers, score_logits
from edgeft.tasks.texts import TextTask

if TYPE_CHECKING:
    import pyarrow as pa


class TextClassification(TextTask):
    """Feeds by the Rust tokenizers library from one frozen tokenizer.json; the same in training and on the device."""

    name = "text-classification"
    metrics: tuple[str, ...] = METRICS
    gated: tuple[str, ...] = GATED
    families: tuple[str, ...] = FAMILIES
    headline = "accuracy"

    def decision(self) -> Mapping[str, Any]:
        """Softmax, then the highest."""
        return DECISION

    def keep(self, outputs: Arrays) -> Arrays:
        """All outputs."""
        return outputs

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """Accuracy and macro-F1 of `logits` (n, classes)."""
        return score_logits(outputs, rows, labels)

    def answer(
        self, outputs: Arrays, labels: Sequence[str], thresholds: Mapping[str, float] = NO_THRESHOLDS
    ) -> list[dict[str, Any]]:
        """Per case: label, probability, the `top` three, and `threshold` where one decided."""
        return answers(outputs, labels, thresholds)
