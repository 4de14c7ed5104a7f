"""The float export: same answers, dynamic shapes, canonical bytes, stamped versions, refusals with a reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from edgeft_exporters.onnx import graph as graphs
from edgeft_exporters.onnx.exporter import OnnxExporter

from edgeft.artifact import Artifact
from edgeft.exporter import Unsupported
from tests.exporters import tiny

pytestmark = pytest.mark.ml

FLOAT32 = 1e-4
"""Same arithmetic, other kernels: 1e-6 observed on logits of order 1; a wrong weight or mask gives 1e-2 and more."""


def run(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], feeds)[0]


@pytest.mark.parametrize(("n", "length"), [(1, 24), (3, 24), (5, 7), (1, 1)])
def test_export_answers_like_torch_at_every_shape(
    classifier: Artifact, exported: Artifact, n: int, length: int
) -> None:
    feeds = tiny.make_feeds(n, max(length, 4))
    feeds = {name: array[:, :length] for name, array in feeds.items()}
    ours, theirs = run(exported.path / "model.onnx", feeds), tiny.logits_of(classifier, feeds)
    assert np.abs(ours - theirs).max() < FLOAT32
    assert np.abs(theirs).max() > 0.1


def test_export_holds_no_machine_paths_or_metadata(exported: Artifact) -> None:
    raw = (exported.path / "model.onnx").read_bytes()
    model = onnx.load_from_string(raw)
    assert not model.metadata_props and not model.graph.value_info and not model.producer_name
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)
    for secret in (b"site-packages", b".py", str(Path.home()).encode() + b"/", b"/tmp/"):
        assert secret not in raw
    assert "IsNaN" not in exported.facts["operators"] and "GatherND" not in exported.facts["operators"]


def test_two_processes_write_the_same_bytes(classifier: Artifact, exported: Artifact, tmp_path: Path) -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path\n"
        "from edgeft.artifact import Artifact\n"
        "from edgeft_exporters.onnx.exporter import OnnxExporter\n"
        "from tests.exporters import tiny\n"
        "model, out = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "OnnxExporter().export(Artifact('torch-model', model, '0' * 64), tiny.SETTINGS, out, tiny.context(out))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(classifier.path), str(tmp_path)], check=True, capture_output=True)
    assert (tmp_path / "model.onnx").read_bytes() == (exported.path / "model.onnx").read_bytes()


def test_versions_are_stamped_for_the_device(classifier: Artifact, exported: Artifact, tmp_path: Path) -> None:
    model = onnx.load(str(exported.path / "model.onnx"))
    assert graphs.opset_of(model) == 20 and model.ir_version <= 10
    facts = OnnxExporter().export(classifier, {"opset": 18, "ir_version": 8}, tmp_path, tiny.context(tmp_path))
    assert (facts["opset"], facts["ir_version"]) == (18, 8)
    feeds = tiny.make_feeds(2)
    assert np.abs(run(tmp_path / "model.onnx", feeds) - tiny.logits_of(classifier, feeds)).max() < FLOAT32


def test_a_device_too_old_is_unsupported(classifier: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="needs IR version 9, the device takes 8"):
        OnnxExporter().export(classifier, {"opset": 20, "ir_version": 8}, tmp_path, tiny.context(tmp_path))


def test_an_opset_without_layer_norm_is_unsupported_in_words(classifier: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="cannot be lowered to 13: No Previous Version of LayerNormalization"):
        OnnxExporter().export(classifier, {"opset": 13, "ir_version": 8}, tmp_path, tiny.context(tmp_path))


@pytest.mark.parametrize(("family", "additive"), [("DistilBert", True), ("Llama", False)])
def test_the_mask_is_respelt_only_where_the_answers_stay(tmp_path: Path, family: str, additive: bool) -> None:
    import transformers

    shape = {"vocab_size": tiny.VOCABULARY, "num_labels": 3, "pad_token_id": 0, "initializer_range": 0.2}
    named = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    if family == "Llama":
        named = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = getattr(transformers, f"{family}Config")(**shape, **named)
    torch.manual_seed(0)
    getattr(transformers, f"{family}ForSequenceClassification")(config).save_pretrained(tmp_path / "torch")
    model = Artifact("torch-model", tmp_path / "torch", "0" * 64, {"form": "transformers"})
    facts = OnnxExporter().export(model, tiny.SETTINGS, tmp_path, tiny.context(tmp_path))
    feeds = {name: array for name, array in tiny.make_feeds(6).items() if name != "token_type_ids"}
    assert facts["additive_mask"] is additive
    assert np.abs(run(tmp_path / "model.onnx", feeds) - tiny.logits_of(model, feeds)).max() < FLOAT32


def test_large_weights_go_to_external_data(classifier: Artifact, exported: Artifact, tmp_path: Path) -> None:
    exporter = OnnxExporter(external_above=100_000)
    facts = exporter.export(classifier, tiny.SETTINGS, tmp_path, tiny.context(tmp_path))
    assert (tmp_path / "model.onnx.data").stat().st_size > 100_000
    assert (tmp_path / "model.onnx").stat().st_size < 100_000
    assert facts["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    feeds = tiny.make_feeds(3)
    assert np.array_equal(run(tmp_path / "model.onnx", feeds), run(exported.path / "model.onnx", feeds))
    again = tmp_path / "again"
    again.mkdir()
    given = Artifact("onnx", tmp_path, "0" * 64)
    exporter.export(given, tiny.SETTINGS, again, tiny.context(again))
    assert (again / "model.onnx.data").read_bytes() == (tmp_path / "model.onnx.data").read_bytes()


def test_an_onnx_file_goes_through_unchanged_in_meaning(exported: Artifact, tmp_path: Path) -> None:
    source = Artifact("onnx", exported.path / "model.onnx", "0" * 64)
    facts = OnnxExporter().export(source, tiny.SETTINGS, tmp_path, tiny.context(tmp_path))
    assert facts["from"] == "onnx"
    assert (tmp_path / "model.onnx").read_bytes() == (exported.path / "model.onnx").read_bytes()


def test_onnx_with_other_labels_is_refused(exported: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="has 3 classes, the data has 2 labels"):
        OnnxExporter().export(exported, tiny.SETTINGS, tmp_path, tiny.context(tmp_path, ("x", "y")))


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "model.onnx"
    bad.write_bytes(b"not a model at all")
    with pytest.raises(Unsupported, match="not a valid ONNX model"):
        OnnxExporter().export(Artifact("onnx", bad, ""), tiny.SETTINGS, tmp_path, tiny.context(tmp_path))


def test_external_data_cannot_leave_the_models_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4, 4], data_location=1)
    weight.external_data.add(key="location", value="../secret")
    _save_matmul(inside / "model.onnx", weight)
    with pytest.raises(Unsupported, match="not a valid ONNX model"):
        OnnxExporter().export(Artifact("onnx", inside, ""), tiny.SETTINGS, tmp_path, tiny.context(tmp_path))


def test_a_custom_operator_is_unsupported_by_name(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    path = _save_matmul(tmp_path / "model.onnx", weight, domain="acme.ops", operator="FancyMatMul")
    with pytest.raises(Unsupported) as caught:
        OnnxExporter().export(Artifact("onnx", path, ""), tiny.SETTINGS, tmp_path, tiny.context(tmp_path, ()))
    assert caught.value.op == "FancyMatMul" and "acme.ops" in caught.value.reason


def test_a_torch_operator_without_translation_is_unsupported_by_name(tmp_path: Path) -> None:
    from edgeft_exporters.onnx.torch_export import trace

    class Odd(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(input_ids.float()[:, :2].unsqueeze(-1) * torch.ones(2)).real

    with pytest.raises(Unsupported) as caught:
        trace(Odd(), ("input_ids",), 20)
    assert "eig" in caught.value.op or "eig" in caught.value.reason


def test_a_code_model_without_masks_exports(tmp_path: Path) -> None:
    from edgeft_exporters.onnx.torch_export import feed_names, trace

    class Bag(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = torch.nn.Embedding(50, 8), torch.nn.Linear(8, 3)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.table(input_ids).mean(1))

    torch.manual_seed(0)
    module = Bag().eval()
    assert feed_names(module, None) == ("input_ids",)
    model, facts = trace(module, ("input_ids",), 20)
    graphs.write_model(model, tmp_path)
    ids = np.arange(10).reshape(2, 5)
    assert facts["additive_mask"] is False
    difference = run(tmp_path / "model.onnx", {"input_ids": ids}) - module(torch.from_numpy(ids)).detach().numpy()
    assert np.abs(difference).max() < FLOAT32


def test_signature_knows_other_exporters_names(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    path = _save_matmul(tmp_path / "model.onnx", weight, given="segment_ids", result="out")
    signature = OnnxExporter().signature(Artifact("onnx", path, ""))
    assert signature.inputs["token_type_ids"].name == "segment_ids"
    assert signature.inputs["token_type_ids"].shape == ("batch", 4)
    assert signature.outputs["logits"].name == "out"


def _save_matmul(
    path: Path,
    weight: onnx.TensorProto,
    domain: str = "",
    operator: str = "MatMul",
    given: str = "x",
    result: str = "y",
) -> Path:
    make = onnx.helper
    value = make.make_tensor_value_info
    graph = make.make_graph(
        [make.make_node(operator, [given, "w"], [result], domain=domain, name="m")],
        "g",
        [value(given, onnx.TensorProto.FLOAT, ["batch", 4])],
        [value(result, onnx.TensorProto.FLOAT, ["batch", 4])],
        [weight],
    )
    opsets = [make.make_opsetid("", 20), *([make.make_opsetid(domain, 1)] if domain else [])]
    path.write_bytes(make.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path
