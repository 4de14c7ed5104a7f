"""The 8-bit variants: what is quantised, what stays float, how far answers move, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeft_exporters.onnx.embedding import quantise_rows
from edgeft_exporters.onnx.exporter import OnnxExporter, saturates
from edgeft_exporters.onnx.layers import linear_nodes

from edgeft.artifact import Artifact
from edgeft.device.profile import Device, load_device
from edgeft.exporter import Unsupported, Variant
from tests.exporters import tiny

pytestmark = pytest.mark.ml

INT8 = 0.25
"""Mean logit error of an 8-bit tiny BERT with random weights over the standard deviation of its logits: 0.03 to 0.1
observed; unrelated answers give above 1."""
INT4 = 0.6
"""The same with 4-bit weights."""


def ladder() -> dict[str, Variant]:
    return {variant.name: variant for variant in OnnxExporter().ladder(Device(name="here"))}


def compress(model: Artifact, variant: Variant, out: Path) -> tuple[Artifact, dict[str, Any]]:
    out.mkdir(parents=True, exist_ok=True)
    feeds = tiny.make_feeds(40, seed=5) if variant.needs_calibration else None
    facts = OnnxExporter().compress(model, variant, feeds, out, tiny.context(out))
    return Artifact("onnx", out, "0" * 64, facts), dict(facts)


def run(path: Path, feeds: dict[str, Any]) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["logits"], feeds)[0]


def operators(artifact: Artifact) -> list[str]:
    return [node.op_type for node in onnx.load(str(artifact.path / "model.onnx")).graph.node]


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_variants_answer_nearly_like_float(exported: Artifact, tmp_path: Path, name: str) -> None:
    artifact, facts = compress(exported, ladder()[name], tmp_path)
    feeds = tiny.make_feeds(64, seed=9)
    ours, theirs = run(tmp_path / "model.onnx", feeds), run(exported.path / "model.onnx", feeds)
    error = np.abs(ours - theirs).mean() / theirs.std()
    assert 0 < error < INT8
    assert facts["bytes"] < 0.45 * exported.facts["bytes"]
    assert facts["quantised"] == 13 and len(facts["kept_float"]) == 1  # 2 layers x 6, the pooler; the head stays
    wanted = "MatMulInteger" if name == "int8-dynamic" else "QuantizeLinear"
    assert wanted in operators(artifact)


def test_compressing_twice_gives_the_same_bytes(exported: Artifact, tmp_path: Path) -> None:
    for name, variant in ladder().items():
        first, _ = compress(exported, variant, tmp_path / name / "1")
        second, _ = compress(exported, variant, tmp_path / name / "2")
        assert (first.path / "model.onnx").read_bytes() == (second.path / "model.onnx").read_bytes()


def test_static_layers_read_unsigned_activations_and_give_float(exported: Artifact, tmp_path: Path) -> None:
    """Signed activations and quantised results were 4 times and 8% slower on a MiniLM."""
    compress(exported, ladder()["int8-static"], tmp_path)
    graph = onnx.load(str(tmp_path / "model.onnx")).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    zero_points = [kinds[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert zero_points and set(zero_points) == {onnx.TensorProto.UINT8}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert not any(makers.get(n.input[0]) in ("MatMul", "Gemm") for n in graph.node if n.op_type == "QuantizeLinear")


def test_named_layers_stay_float(exported: Artifact, tmp_path: Path) -> None:
    names = [node.name for node in linear_nodes(onnx.load(str(exported.path / "model.onnx")).graph)]
    variant = Variant("mixed", {"mode": "dynamic"}, keep_float=frozenset(names[:3]))
    _, facts = compress(exported, variant, tmp_path)
    assert set(names[:3]) <= set(facts["kept_float"]) and facts["quantised"] == len(names) - 4


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (Variant("x", {"mode": "dynamic"}, keep_float=frozenset({"nowhere"})), "no layer is called 'nowhere'"),
        (Variant("x", {"mode": "dynamic", "bits": 4}), "option bits"),
        (Variant("x", {"mode": "static"}), "needs calibration cases"),
    ],
)
def test_what_cannot_be_done_says_why(exported: Artifact, tmp_path: Path, variant: Variant, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        compress(exported, variant, tmp_path)


def test_a_quantised_model_is_not_quantised_again(exported: Artifact, tmp_path: Path) -> None:
    once, _ = compress(exported, ladder()["int8-dynamic"], tmp_path / "once")
    with pytest.raises(Unsupported, match="already quantised") as caught:
        compress(once, ladder()["int8-dynamic"], tmp_path / "twice")
    assert caught.value.op == "DynamicQuantizeLinear"


def test_rows_of_an_embedding_keep_their_own_scale() -> None:
    table = np.array([[1.0, -0.5], [1000.0, 3.0], [0.0, 0.0]], dtype=np.float32)
    rows, scales = quantise_rows(table)
    assert rows.dtype == np.int8 and scales.shape == (3, 1)
    back = rows * scales
    assert np.abs(back - table).max(axis=1) == pytest.approx([0, 1000 / 127 / 2, 0], abs=4)
    assert np.abs(back[0] - table[0]).max() <= 0.5 / 127 + 1e-6, "the large row does not cost the small one"


@pytest.mark.parametrize(
    ("architecture", "machine", "flags", "narrow"),
    [
        ("host", "x86_64", ("avx2",), True),
        ("host", "x86_64", ("avx2", "avx512_vnni"), False),
        ("host", "aarch64", (), False),
        ("x86_64", "x86_64", ("avx512_vnni",), True),
        ("aarch64", "x86_64", (), False),
    ],
)
def test_weights_are_narrow_where_the_cpu_saturates(
    monkeypatch: pytest.MonkeyPatch, architecture: Any, machine: str, flags: tuple[str, ...], narrow: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("edgeft.device.conditions.cpu_flags", lambda: flags)
    assert saturates(Device(name="d", architecture=architecture)) is narrow
    variants = OnnxExporter().ladder(Device(name="d", architecture=architecture))
    assert [variant.options["reduce_range"] for variant in variants] == [narrow, narrow]


@pytest.mark.parametrize(("flags", "narrow"), [(("avx2", "fma"), True), (("avx2", "avx_vnni"), False)])
def test_stated_flags_say_whether_another_machine_saturates(flags: tuple[str, ...], narrow: bool) -> None:
    assert saturates(Device(name="d", architecture="x86_64", cpu_flags=flags)) is narrow


def test_narrow_weights_use_seven_bits(exported: Artifact, tmp_path: Path) -> None:
    compress(exported, Variant("narrow", {"mode": "dynamic", "reduce_range": True}), tmp_path)
    graph = onnx.load(str(tmp_path / "model.onnx")).graph
    weights = {node.input[1] for node in graph.node if node.op_type == "MatMulInteger"}
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in weights]
    assert arrays and all(int(np.abs(array.astype(np.int16)).max()) <= 64 for array in arrays)


@pytest.mark.parametrize(
    ("options", "bits"),
    [({"bits": 8}, 8), ({"bits": 4}, 4), ({"bits": 4, "algorithm": "hqq"}, 4)],
    ids=["int8", "int4", "int4-hqq"],
)
def test_weights_alone_answer_nearly_like_float(
    exported: Artifact, tmp_path: Path, options: dict[str, Any], bits: int
) -> None:
    """Every linear layer, the pooler's Gemm too, becomes MatMulNBits that states the level of the 8-bit kernels."""
    artifact, facts = compress(exported, Variant("w", {"mode": "weights", **options}), tmp_path)
    nodes = [node for node in onnx.load(str(artifact.path / "model.onnx")).graph.node if node.op_type == "MatMulNBits"]
    stated = [{item.name: item.i for item in node.attribute} for node in nodes]
    assert len(nodes) == facts["quantised"] == 13
    assert {(about["bits"], about["accuracy_level"], about["block_size"]) for about in stated} == {(bits, 4, 32)}
    feeds = tiny.make_feeds(64, seed=9)
    ours, theirs = run(tmp_path / "model.onnx", feeds), run(exported.path / "model.onnx", feeds)
    assert 0 < np.abs(ours - theirs).mean() / theirs.std() < (INT8 if bits == 8 else INT4)


def test_sixteen_bit_activations_are_offered_where_a_profile_names_qnn() -> None:
    providers = ("QNNExecutionProvider", "CPUExecutionProvider")
    board = Device(name="board", os="linux", transport="ssh", architecture="aarch64", providers=providers)
    exporter = OnnxExporter()
    for device, offered in ((board, True), (load_device("local-cpu"), False)):
        assert ("a16w8-qnn" in [rung.name for rung in exporter.possible_rungs(device)]) is offered
        static = next(variant for variant in exporter.ladder(device) if variant.name == "int8-static")
        assert ("int8-static-a16" in [variant.name for variant in exporter.repairs(static, device)]) is offered


def test_embedding_tables_can_stay_float(exported: Artifact, tmp_path: Path) -> None:
    layers = OnnxExporter().layers(exported)
    (table,) = [layer for layer in layers if layer.op == "Gather"]
    assert table.weights == tiny.VOCABULARY * 32 and layers[0] == table
    _, facts = compress(exported, Variant("x", {"mode": "dynamic"}, frozenset({table.name})), tmp_path)
    assert "embeddings" not in facts and table.name in facts["kept_float"]
