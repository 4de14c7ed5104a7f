"""Scores and answers of any classifier: logits in, accuracy, macro-F1, confusion and labelled probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.data.table import column_array
from edgeft.errors import StepError
from edgeft.evaluate.calibration import brier_cases
from edgeft.metric_names import RANKING_FAMILIES, RATE_FAMILIES
from edgeft.task import NO_THRESHOLDS, Arrays, Score

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

METRICS = ("accuracy", "macro_f1")
GATED = ("ece", "brier", "flip_rate")
FAMILIES = (*RATE_FAMILIES, *RANKING_FAMILIES)
TOP = 3
DECISION: Mapping[str, Any] = {
    "output": "logits", "activation": "softmax", "axis": 1, "rule": "argmax over axis 1; the first of equals"
}  # fmt: skip
"""How logits (n, classes, ...) become an answer; `DecidingTask.decision`."""


def score_logits(outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
    """Accuracy, macro-F1 and confusion of `logits` (n, classes) against the rows' `label` column (int64 places).

    StepError when the shapes do not fit or a logit is not finite: a broken artefact has no score.
    """
    import numpy as np

    logits = checked_logits(outputs, labels)
    truth = column_array(rows, "label").astype(np.int64)
    if len(truth) != len(logits) or not len(truth):
        raise StepError(f"{len(logits)} outputs for {len(truth)} rows")
    if truth.min() < 0 or truth.max() >= len(labels):
        raise StepError(f"a row's label is outside 0..{len(labels) - 1}")
    predictions = logits.argmax(axis=1).astype(np.int64)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, predictions), 1)
    correct = predictions == truth
    probabilities = softmax(logits)
    return Score(
        metrics={"accuracy": float(correct.mean()), "macro_f1": macro_f1(confusion)},
        correct=correct,
        predictions=predictions,
        confusion=confusion,
        cases={"brier": brier_cases(probabilities, truth)},
        labels=tuple(labels),
        probabilities=probabilities,
    )


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(n, classes) probabilities in float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean F1 = 2 TP / (2 TP + FP + FN) of the classes that occur in truth or predictions.

    Equal to scikit-learn's f1_score(average="macro", zero_division=0) without `labels`.
    """
    hits = confusion.diagonal()
    seen = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = seen > 0
    return float((2 * hits[present] / seen[present]).mean())


def checked_logits(outputs: Arrays, labels: Sequence[str]) -> NDArray[np.floating[Any]]:
    """`logits` as (n, classes); StepError for another shape or a value that is not finite, naming the first rows."""
    import numpy as np

    if "logits" not in outputs:
        raise StepError(f"the outputs have no `logits`, only {', '.join(sorted(outputs)) or 'nothing'}")
    logits: NDArray[np.floating[Any]] = np.asarray(outputs["logits"])
    if logits.ndim != 2 or logits.shape[1] != len(labels):
        what = f"logits have shape {tuple(logits.shape)}, (n, {len(labels)}) is expected"
        raise StepError(what, hint=f"the labels are {', '.join(labels[:10])}: does the model have as many outputs?")
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        what = f"logits of {len(broken)} of {len(logits)} cases are NaN or infinite"
        raise StepError(what, hint=f"first: {', '.join(str(place) for place in broken[:5])} (counted from 0)")
    return logits


def answers(
    outputs: Arrays, labels: Sequence[str], thresholds: Mapping[str, float] = NO_THRESHOLDS
) -> list[dict[str, Any]]:
    """Per case: label, probability (softmax in float64), the `top` three, and `threshold` where one decided."""
    import numpy as np

    probabilities = softmax(checked_logits(outputs, labels))
    found = []
    for row in probabilities:
        order = np.argsort(-row, kind="stable")[:TOP]
        top = [{"label": labels[place], "probability": float(row[place])} for place in order]
        place = decide(row, labels, thresholds)
        label = labels[place]
        by = {"threshold": thresholds[label]} if thresholds.get(label, 2.0) <= row[place] else {}
        found.append({"label": label, "probability": float(row[place]), **by, "top": top})
    return found


def decide(row: NDArray[np.float64], labels: Sequence[str], thresholds: Mapping[str, float]) -> int:
    """The place of the answer among probabilities (classes,): of the labels that reach their threshold the likeliest,
    else the likeliest of those that have none; where all have one, the likeliest of all."""
    import numpy as np

    reached = [place for place, label in enumerate(labels) if row[place] >= thresholds.get(label, 2.0)]
    free = [place for place, label in enumerate(labels) if label not in thresholds]
    kept = reached or free or list(range(len(labels)))
    return kept[int(np.argmax(row[kept]))]
