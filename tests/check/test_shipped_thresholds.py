"""Thresholds that a baseline was shipped with: of the gate's own point or of none, and read as hostile input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Signature
from edgeft.gate import Gate, OperatingPoint
from edgeft.ship.bundle import BundleError
from edgeft.ship.check.completing import shipped_thresholds
from edgeft.ship.postprocess import postprocess_json, read_points, read_thresholds
from edgeft.tasks.image_classification import ImageClassification

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
