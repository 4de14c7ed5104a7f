"""A user's metric: what it may return, and where its faults are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from edgeft.canonical import digest_file
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.tasks.custom_metric import check_metric, load_metric, metric_digest

LOGITS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
TRUTH = np.array([0, 1, 1])
ROWS = pa.table({"text": ["a", "b", "c"]})


def metric(tmp_path: Path, body: str) -> object:
    file = tmp_path / "score.py"
    file.write_text(f"def f(logits, labels, rows):\n    return {body}\n")
    return load_metric(f"{file}:f")(LOGITS, TRUTH, ROWS)


def test_a_number_and_one_number_per_case(tmp_path: Path) -> None:
    assert metric(tmp_path, "(logits.argmax(1) == labels).mean()") == pytest.approx(2 / 3)
    per_case = metric(tmp_path, "logits.argmax(1) == labels")
    assert isinstance(per_case, np.ndarray)
    assert per_case.dtype == np.float64
    assert per_case.tolist() == [1.0, 1.0, 0.0]
    assert metric(tmp_path, "rows.num_rows") == 3.0


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("float('nan')", "returned a value that is not finite"),
        ("[1, 2]", "returned an array of shape (2,)"),
        ("'good'", "returned a str"),
        ("None", "returned a value that is not finite"),
        ("logits", "returned an array of shape (3, 2)"),
    ],
)
def test_what_is_no_metric(tmp_path: Path, body: str, what: str) -> None:
    with pytest.raises(StepError) as caught:
        metric(tmp_path, body)
    assert what in caught.value.what


def test_an_exception_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        metric(tmp_path, "labels[99]")
    assert caught.value.where == f"{tmp_path / 'score.py'}:2"
    assert caught.value.excerpt == "    return labels[99]"


def test_check_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "score.py"
    file.write_text("raise SystemExit\n\ndef f(logits, labels, rows):\n    return 1\n\ng = f\n")
    check_metric(f"{file}:f")
    check_metric(f"{file}:g")
    with pytest.raises(RecipeError, match="has no function 'h'"):
        check_metric(f"{file}:h")
    with pytest.raises(RecipeError, match="no file"):
        check_metric(f"{tmp_path / 'gone.py'}:f")
    file.write_text("def f(:\n")
    with pytest.raises(EdgeftError) as caught:
        check_metric(f"{file}:f")
    assert caught.value.where == f"{file}:1"


def test_digest_follows_the_code(tmp_path: Path) -> None:
    file = tmp_path / "score.py"
    file.write_text("def f(logits, labels, rows):\n    return 1\n")
    first = metric_digest(f"{file}:f", digest_file)
    file.write_text("def f(logits, labels, rows):\n    return 2\n")
    assert metric_digest(f"{file}:f", digest_file) != first
