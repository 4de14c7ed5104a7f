"""Scores equal to scikit-learn's, answers as probabilities, and what a broken artefact is answered with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.errors import StepError
from edgeft.task import Score
from edgeft.tasks.text_classification import TextClassification

LABELS = ["a", "b", "c", "d"]
# both sides are float64 sums of at most four terms in [0, 1]
ROUNDING = 1e-12


def score(logits: Any, truth: list[int]) -> Score:
    rows = pa.table({"label": pa.array(truth, pa.int64())})
    return TextClassification().score({"logits": np.asarray(logits, np.float32)}, rows, LABELS)


@pytest.mark.ml
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_metrics_equal_scikit_learn(cases: list[tuple[int, int]]) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    truth, guess = [case[0] for case in cases], [case[1] for case in cases]
    found = score(np.eye(4)[guess], truth)
    assert found.metrics["accuracy"] == pytest.approx(accuracy_score(truth, guess), abs=ROUNDING)
    assert found.metrics["macro_f1"] == pytest.approx(
        f1_score(truth, guess, average="macro", zero_division=0), abs=ROUNDING
    )
    assert found.confusion.tolist() == confusion_matrix(truth, guess, labels=range(4)).tolist()
    assert found.predictions.tolist() == guess
    assert found.correct.tolist() == [one == other for one, other in cases]


@pytest.mark.parametrize(
    ("logits", "truth", "what"),
    [
        ([[0, 1, 2, np.nan], [0, 0, 0, 1]], [0, 1], "logits of 1 of 2 cases are NaN or infinite"),
        ([[0, 1, 2, np.inf]], [0], "logits of 1 of 1 cases are NaN or infinite"),
        ([[0, 1, 2]], [0], "logits have shape (1, 3), (n, 4) is expected"),
        ([0, 1, 2, 3], [0], "logits have shape (4,), (n, 4) is expected"),
        ([[0, 1, 2, 3]], [0, 1], "1 outputs for 2 rows"),
        ([[0, 1, 2, 3]], [4], "a row's label is outside 0..3"),
    ],
)
def test_broken_outputs(logits: Any, truth: list[int], what: str) -> None:
    with pytest.raises(StepError) as caught:
        score(logits, truth)
    assert caught.value.what == what


def test_no_rows_and_no_logits() -> None:
    with pytest.raises(StepError, match="0 outputs for 0 rows"):
        score(np.zeros((0, 4)), [])
    with pytest.raises(StepError, match="no `logits`, only scores"):
        TextClassification().score({"scores": np.zeros((1, 4))}, pa.table({"label": [0]}), LABELS)


def test_answers_are_probabilities_in_order() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]))
    first, second = TextClassification().answer({"logits": logits}, LABELS)
    assert first["label"] == "d"
    assert first["probability"] == pytest.approx(0.4, abs=ROUNDING)
    assert [entry["label"] for entry in first["top"]] == ["d", "c", "b"]
    assert [entry["label"] for entry in second["top"]] == ["a", "b", "c"]


def test_answers_of_large_logits_do_not_overflow() -> None:
    (answer,) = TextClassification().answer({"logits": np.array([[1e30, -1e30, 0, 1]], np.float32)}, LABELS)
    assert answer["probability"] == 1.0


@pytest.mark.parametrize(
    ("row", "thresholds", "label", "by"),
    [
        ((0.5, 0.3, 0.1, 0.1), {}, 0, None),
        ((0.5, 0.3, 0.1, 0.1), {1: 0.3}, 1, 0.3),
        ((0.5, 0.3, 0.1, 0.1), {1: 0.31}, 0, None),
        ((0.1, 0.5, 0.3, 0.1), {1: 0.6}, 2, None),
        ((0.5, 0.3, 0.15, 0.05), {1: 0.2, 2: 0.1}, 1, 0.2),
        ((0.4, 0.3, 0.2, 0.1), {0: 0.9, 1: 0.9, 2: 0.9, 3: 0.9}, 0, None),
    ],
)
def test_a_label_with_a_threshold_is_the_answer_from_there_on(
    row: tuple[float, ...], thresholds: dict[int, float], label: int, by: float | None
) -> None:
    """Below it, the likeliest of the labels that have none."""
    logits = np.log(np.array([row], np.float64))
    stated = {LABELS[place]: least - 1e-9 for place, least in thresholds.items()}
    (answer,) = TextClassification().answer({"logits": logits}, LABELS, stated)
    assert answer["label"] == LABELS[label] and answer["probability"] == pytest.approx(row[label])
    assert answer.get("threshold") == (None if by is None else pytest.approx(by))
    assert answer["top"][0]["probability"] == max(answer["top"], key=lambda item: item["probability"])["probability"]
