"""Thresholds that a baseline was shipped with: of the gate's own point or of none, and read as hostile input."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edgeft.artifact import Signature
from edgeft.gate import Gate, OperatingPoint
from edgeft.ship.bundle import BundleError
from edgeft.ship.check.completing import by_thresholds, shipped_thresholds
from edgeft.ship.postprocess import postprocess_json, read_points, read_thresholds
from edgeft.tasks.image_classification import ImageClassification
from edgeft.tasks.image_multilabel import ImageMultilabel
from tests.check import kit
from tests.check.conftest import Ask

POINT = OperatingPoint("ill", "specificity", 0.9)


def gate(**point: float) -> Gate:
    return Gate(metric="sensitivity_ill", at_least=0.5, **point)  # type: ignore[arg-type]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    stated = postprocess_json(ImageClassification(), ["well", "ill"], Signature({}, {}), thresholds={POINT: 0.25})
    (tmp_path / "postprocess.json").write_text(json.dumps(stated))
    return tmp_path


def test_a_threshold_holds_at_the_point_where_it_was_fixed_and_at_no_other(bundle: Path) -> None:
    assert (read_thresholds(bundle), read_points(bundle)) == ({"ill": 0.25}, {"ill": "specificity of 0.9"})
    assert shipped_thresholds(bundle, [gate(at_specificity=0.9)]) == {POINT: 0.25}
    assert shipped_thresholds(bundle, [gate(at_specificity=0.8), gate(at_sensitivity=0.9), gate()]) == {}


def test_a_bundle_that_does_not_say_where_fixes_none(bundle: Path) -> None:
    stated = json.loads((bundle / "postprocess.json").read_text())
    del stated["points"]
    (bundle / "postprocess.json").write_text(json.dumps(stated))
    assert read_thresholds(bundle) == {"ill": 0.25} and shipped_thresholds(bundle, [gate(at_specificity=0.9)]) == {}
    (bundle / "postprocess.json").unlink()
    assert read_thresholds(bundle) == {}


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"thresholds": {"ill": NaN}}', '{"thresholds": {"ill": "0.5"}}', '{"thresholds": [0.5]}', "",
     '{"thresholds": {"ill": 0.5, "ill": 0.9}}'],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, text: Any) -> None:
    (tmp_path / "postprocess.json").write_text(text)
    with pytest.raises(BundleError, match=r"postprocess\.json cannot be read"):
        read_thresholds(tmp_path)


def test_the_same_model_with_another_threshold_is_run_and_fails(world: Path, texts: kit.Texts, ask: Ask) -> None:
    """Both answer the first label by its threshold: one where it is likely, the other nearly always."""
    point = OperatingPoint(texts.labels[0], "specificity", 0.9)
    for name, least in (("released", 0.5), ("moved", 1e-15), ("again", 0.5)):
        kit.text_bundle(world / name, texts, thresholds={point: least})
    code, record = ask("moved --baseline released --data test.csv --no-latency")
    assert not record["identical"] and code == 1
    accuracy = next(row for row in record["verdicts"] if row["check"] == "accuracy")
    assert accuracy["status"] == "FAIL" and accuracy["candidate"] < accuracy["baseline"] - 1
    assert not record["outputs"].startswith("the same answer on 480 of 480")
    assert any("which differ: each side has its own" in note for note in record["notes"])
    assert not any("prepare their inputs" in note for note in record["notes"])
    answers_differ = ask("moved --baseline released --data test.csv --no-latency --metric flip_rate --margin 0.01")
    assert answers_differ[0] == 1
    code, record = ask("again --baseline released --data test.csv --no-latency")
    assert code == 0 and record["identical"]


def test_each_side_is_held_at_the_threshold_it_was_shipped_with(world: Path, texts: kit.Texts, ask: Ask) -> None:
    label = texts.labels[0]
    gates = (
        f"  - {{metric: 'specificity_{label}', at_specificity: 0.9, no_worse_than: source, margin: 0.3}}\n"
        "  - {metric: ece, no_worse_than: source, margin: 0.3}\n"
    )
    point = OperatingPoint(label, "specificity", 0.9)
    for name, least in (("released", 0.5), ("moved", 1e-15)):
        kit.text_bundle(world / name, texts, gates=gates, thresholds={point: least})
    code, record = ask("moved --baseline released --data test.csv --no-latency --no-size")
    found, ece = record["verdicts"]
    assert code == 1 and found["status"] == "FAIL" and found["interval"][0] > 0.3
    assert ece["value"] == 0.0, "probabilities know no threshold"


def test_answers_of_several_labels_are_by_their_thresholds_too() -> None:
    chance = np.array([[0.3, 0.6], [0.1, 0.6]])
    rows = pa.table({"label": [0b11, 0b00]})
    score = ImageMultilabel().score({"logits": np.log(chance / (1 - chance))}, rows, ("a", "b"))
    side = SimpleNamespace(reading=SimpleNamespace(thresholds={"a": 0.25, "b": 0.7}))
    found = by_thresholds(score, side, rows)  # type: ignore[arg-type]
    assert score.metrics == {"label_accuracy": 0.5, "accuracy": 0.0}
    assert found.called is not None and found.called.tolist() == [[True, False], [False, False]]
    assert found.metrics == {"label_accuracy": 0.75, "accuracy": 0.5} and found.predictions.tolist() == [1, 0]
