"""Two artefacts against each other: in one process, in fresh ones for two runtimes, and their outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter

from edgeft.artifact import Artifact, TensorSpec
from edgeft.device.profile import Device, load_device
from edgeft.device.transport import runtime_file
from edgeft.errors import DeviceError, RecipeError
from edgeft.targets import artifact_jobs
from edgeft.targets.compare import Side, compare_sides
from edgeft.targets.profile.differences import match_tensors, measure_differences, translate_feeds
from tests.exporters import tiny

pytestmark = pytest.mark.ml
HERE = load_device("local-cpu")


@pytest.fixture
def side(exported: Artifact) -> Side:
    return Side("onnxruntime", exported, OnnxExporter().signature(exported), tiny.make_feeds(6))


@pytest.fixture
def other_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A second runtime: the same file under another name, as an own plug-in would bring it."""
    copy = tmp_path / "again.py"
    shutil.copyfile(runtime_file("onnxruntime"), copy)
    monkeypatch.setattr(artifact_jobs, "runtime_file", lambda name: copy if name == "again" else runtime_file(name))
    return "again"


def test_two_runtimes_are_timed_in_fresh_processes(side: Side, other_runtime: str) -> None:
    other = Side(other_runtime, side.artifact, side.signature, side.feeds)
    seen: list[tuple[float, float]] = []
    found = compare_sides(HERE, side, other, blocks=2, seconds=1.0, on_progress=lambda *step: seen.append(step))
    assert "fresh process" in found.how and found.blocks + found.discarded >= 2 and seen[-1][1] == 2
    assert 0.3 < found.ratio < 3, "the same model in the same runtime, on a machine that may be busy"
    assert found.interval[0] <= found.ratio <= found.interval[1]
    assert bool(found.reasons) == (found.blocks < 2 or found.discarded >= 2)


def test_one_runtime_stays_in_one_process(side: Side) -> None:
    found = compare_sides(HERE, side, side, blocks=4, seconds=0.5)
    assert found.how == "one process" and 0.5 < found.ratio < 2


def test_emulated_devices_are_not_compared(side: Side) -> None:
    with pytest.raises(DeviceError, match="emulated"):
        compare_sides(Device(name="phone", how="emulated"), side, side)


def test_differences_of_a_moved_logit(side: Side, tmp_path: Path) -> None:
    model = onnx.load(str(side.artifact.path / "model.onnx"))
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "before"
    offset = np.array([[0.5, 0, 0]], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(offset, "offset"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "offset"], ["logits"]))
    onnx.save(model, str(tmp_path / "model.onnx"))
    changed = Side("onnxruntime", Artifact("onnx", tmp_path, "1" * 64), side.signature, side.feeds)
    (row,), why = measure_differences(HERE, side, changed, 1)
    assert not why and row.n == 6 and row.name == "logits"
    assert row.max_abs == pytest.approx(0.5, abs=1e-4) and row.mean_abs == pytest.approx(0.5 / 3, abs=1e-4)
    assert row.top1_agreement is not None and 0 <= row.top1_agreement <= 1
    same = measure_differences(HERE, side, side, 1)[0][0]
    assert same.max_abs == 0 and same.top1_agreement == 1


def test_inputs_are_matched_by_name_or_by_order() -> None:
    ids, mask = TensorSpec("ids", "int64", ("n", 8)), TensorSpec("mask", "int64", ("n", 8))
    image = TensorSpec("image", "float32", (1, 3, 8, 8))
    assert match_tensors({"a": ids, "b": mask}, {"b": mask, "a": ids}) == {"b": "b", "a": "a"}
    assert match_tensors({"a": ids, "b": mask}, {"x": ids, "y": mask}) == {"x": "a", "y": "b"}
    assert match_tensors({"a": ids}, {"x": image}) is None
    assert match_tensors({"a": ids}, {"x": ids, "y": mask}) is None


def test_models_of_other_inputs_are_refused(side: Side) -> None:
    from edgeft.artifact import Signature

    image = Signature({"image": TensorSpec("image", "float32", (1, 3, 8, 8))}, {})
    with pytest.raises(RecipeError, match="take different inputs: input_ids"):
        translate_feeds(side.feeds, side.signature, image)
    renamed = Signature(dict(zip("abc", side.signature.inputs.values(), strict=True)), {})
    moved = translate_feeds(side.feeds, side.signature, renamed)
    first = next(iter(side.signature.inputs))
    assert np.array_equal(moved["a"], side.feeds[first])
