"""ORT format: the ONNX exporter's answers, canonical bytes, what a minimal build needs, and the checker's verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeft_exporters.ort_mobile.canonical import canonicalise_ort, read_resolver
from edgeft_exporters.ort_mobile.exporter import OrtMobileExporter, operator_names

from edgeft.artifact import Artifact, entry_file
from edgeft.device.profile import Device
from edgeft.exporter import Unsupported, Variant
from edgeft.runtimes import ort
from edgeft.targets.parity import TOLERANCE
from tests.exporters import tiny
from tests.material import saturates

pytestmark = pytest.mark.ml

SETTINGS = {**tiny.SETTINGS, "platform": ""}
SAME_ANSWERS = 0.95 if saturates() else 0.97
"""Share of equal classes, 8-bit against float, on random tokens with decided logits; chance is a third. 0.965 was
observed on an x86 without VNNI, whose sums of 8-bit products saturate."""


@pytest.fixture(scope="module")
def made(classifier: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("ort")
    facts = OrtMobileExporter().export(classifier, SETTINGS, out, tiny.context(out))
    return Artifact("ort", out, "0" * 64, facts)


def run(path: Path, feeds: dict[str, Any]) -> np.ndarray:
    session = ort.load(str(entry_file(path)), {"threads": 1})
    try:
        return session.run(feeds)["logits"]
    finally:
        session.close()


def compress(model: Artifact, name: str, out: Path, calibration: dict[str, Any] | None = None) -> dict[str, Any]:
    variant = {item.name: item for item in OrtMobileExporter().ladder(Device(name="d"))}[name]
    chosen = Variant(name, {**variant.options, "settings": SETTINGS}, needs_calibration=variant.needs_calibration)
    return dict(OrtMobileExporter().compress(model, chosen, calibration, out, tiny.context(out)))


@pytest.mark.parametrize(("n", "length"), [(1, 24), (3, 24), (2, 7)])
def test_answers_are_torchs_at_every_shape(classifier: Artifact, made: Artifact, n: int, length: int) -> None:
    feeds = {name: array[:, :length] for name, array in tiny.make_feeds(n).items()}
    theirs = tiny.logits_of(classifier, feeds)
    assert np.abs(run(made.path, feeds) - theirs).max() <= TOLERANCE["float32"] * max(1.0, np.abs(theirs).max())
    assert np.abs(theirs).max() > 0.1


def test_the_folder_holds_what_an_app_needs(made: Artifact) -> None:
    assert sorted(path.name for path in made.path.iterdir()) == [
        "model.ort", "required_operators.config", "signature.json",
    ]  # fmt: skip
    lines = (made.path / "required_operators.config").read_text().splitlines()
    assert lines and all(line.count(";") >= 2 and not line.startswith("#") for line in lines)
    assert {"MatMul", "LayerNormalization", "Softmax"} <= set(made.facts["operators"])
    assert set(made.facts["operators"]) == set(operator_names(lines))
    signature = OrtMobileExporter().signature(made)
    assert set(signature.inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert signature.outputs["logits"].shape[-1] == len(tiny.LABELS)
    assert made.facts["bytes"] == sum(path.stat().st_size for path in made.path.iterdir())


def test_two_conversions_give_the_same_bytes(classifier: Artifact, made: Artifact, tmp_path: Path) -> None:
    OrtMobileExporter().export(classifier, SETTINGS, tmp_path, tiny.context(tmp_path))
    for path in made.path.iterdir():
        raw = path.read_bytes()
        assert raw == (tmp_path / path.name).read_bytes(), path.name
        assert b"site-packages" not in raw and b"/tmp/" not in raw and b"edgeft-ort" not in raw
    raw = (made.path / "model.ort").read_bytes()
    assert canonicalise_ort(raw) == raw, "a canonical file stays as it is"


def test_the_sorted_table_says_what_onnx_runtime_wrote(made: Artifact) -> None:
    from flatbuffers.table import Table

    raw = (made.path / "model.ort").read_bytes()
    root = Table(raw, int.from_bytes(raw[:4], "little"))
    slot = root.Pos + root.Offset(10)
    entries = read_resolver(raw, slot + int.from_bytes(raw[slot : slot + 4], "little"))
    operators = [name.decode().split(":")[1] for name, _ in entries]
    assert {"MatMul", "Softmax", "LayerNormalization"} <= set(operators) and entries == sorted(entries)
    assert all(kinds and all(arguments for _, arguments in kinds) for _, kinds in entries)


def test_what_is_no_ort_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a file in ORT format"):
        canonicalise_ort(b"\0" * 64)
    with pytest.raises(Unsupported, match=r"no signature\.json"):
        OrtMobileExporter().signature(Artifact("ort", tmp_path, ""))


def test_the_checkers_verdict_comes_with_numbers(made: Artifact) -> None:
    assert set(made.facts["usability"]) == {"NNAPI", "CoreML NeuralNetwork", "CoreML MLProgram"}
    assert set(made.facts["usability"].values()) <= {"no", "maybe", "yes"}
    fixed = made.facts["usability_detail"]["fixed_shapes"]["NNAPI"]
    assert 0 < fixed["supported"] < fixed["nodes"] and "LayerNormalization" in fixed["unsupported"]
    assert any("LayerNormalization" in note and "estimated" in note for note in made.facts["notes"])
    as_is = made.facts["usability_detail"]["as_is"]["NNAPI"]
    assert as_is["supported"] < fixed["supported"], "NNAPI takes no dynamic shapes"


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_eight_bits_agree_and_are_smaller(classifier: Artifact, made: Artifact, tmp_path: Path, name: str) -> None:
    calibration = tiny.make_feeds(48, seed=5) if name == "int8-static" else None
    facts = compress(classifier, name, tmp_path, calibration)
    feeds = tiny.make_feeds(200, seed=1)
    ours, theirs = run(tmp_path, feeds), tiny.logits_of(classifier, feeds)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= SAME_ANSWERS
    assert facts["bytes"] < made.facts["bytes"] / 2 and facts["quantised"] > 0
    quantised = {"MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm"}
    assert quantised & set(facts["operators"])


def test_refusals_of_the_graph_are_the_onnx_exporters(classifier: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="needs IR version 9, the device takes 8"):
        OrtMobileExporter().export(
            classifier, {"opset": 20, "ir_version": 8, "platform": ""}, tmp_path, tiny.context(tmp_path)
        )


def test_arm_devices_get_arms_choices() -> None:
    exporter = OrtMobileExporter()
    assert exporter.settings(Device(name="phone", architecture="aarch64"), {})["platform"] == "arm"
    assert exporter.settings(Device(name="here"), {})["platform"] == ""
