"""Layers under the names of their weights: torch.onnx calls most of them val_12, which says nothing to anyone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter, clean
from edgeft_exporters.onnx.torch_export import quiet_export
from edgeft_exporters.openvino.exporter import OpenVinoExporter

from edgeft.artifact import Artifact
from edgeft.cli import main
from edgeft.exporter import Layer, label_weights
from tests.exporters import tiny

pytestmark = pytest.mark.ml

BLOCK = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
         "intermediate.dense", "output.dense")  # fmt: skip
LINEAR = [f"bert.encoder.layer.{index}.{name}" for index in range(2) for name in BLOCK]
LINEAR += ["bert.pooler.dense", "classifier"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny.save_classifier(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def exported(classifier: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("onnx")
    return Artifact("onnx", out, "", OnnxExporter().export(classifier, tiny.SETTINGS, out, tiny.context(out)))


@pytest.mark.parametrize(
    ("weight", "label"),
    [
        ("model.model.encoder.layer.3.query.weight", "encoder.layer.3.query"),
        ("classifier.weight", "classifier"),
        ("embed.weight_transposed", "embed"),
        ("attention.in_proj_weight", "attention.in_proj_weight"),
        ("val_12", ""),
        ("onnx::MatMul_1240", ""),
        ("/encoder/Constant_3_output_0", ""),
        ("", ""),
    ],
)
def test_only_paths_of_modules_are_labels(weight: str, label: str) -> None:
    assert label_weights(weight) == label


def test_every_layer_of_an_encoder_has_its_modules_name(exported: Artifact) -> None:
    layers = OnnxExporter().layers(exported)
    assert [layer.label for layer in layers if layer.op != "Gather"] == LINEAR
    assert layers[0].label == "bert.embeddings.word_embeddings"
    assert len({layer.name for layer in layers}) == len(layers)


def test_openvino_shows_the_same_names(classifier: Artifact, tmp_path: Path) -> None:
    exporter, out = OpenVinoExporter(), tmp_path / "out"
    out.mkdir()
    exporter.export(classifier, {"serve": {"batch": 1, "length": 24}}, out, tiny.context(tmp_path))
    layers = exporter.layers(Artifact("openvino", out, ""))
    assert [layer.label for layer in layers if layer.op == "MatMul"] == LINEAR


def test_a_tied_weight_keeps_its_name_and_the_answers() -> None:
    """The table is read as it is by the embedding, and transposed by the head: two tensors of one weight."""
    import torch

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(50, 16)
            self.head = torch.nn.Linear(16, 50)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids))

    torch.manual_seed(0)
    module, ids = Tied().eval(), torch.arange(12).reshape(3, 4)
    with quiet_export():
        program = torch.onnx.export(module, (ids,), dynamo=True, verbose=False, input_names=["ids"])
    model, _ = clean(program.model_proto)
    onnx.checker.check_model(model)
    names = {tensor.name for tensor in model.graph.initializer}
    assert {f"{name}_transposed" for name in names if name.endswith(".weight")} < names - {"head.bias"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"ids": ids.numpy()})[0]
    np.testing.assert_allclose(found, module(ids).detach().numpy(), atol=1e-5)


def test_inspect_shows_them_and_keeps_the_graphs_names_as_keys(
    exported: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, cases = str(exported.path / "model.onnx"), tmp_path / "cases.npz"
    np.savez(cases, **tiny.make_feeds(16))
    assert main(["inspect", model, "--data", str(cases), "--layers", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sensitivity"]
    keys = {layer.name: layer for layer in OnnxExporter().layers(exported)}
    assert {row["name"]: row["label"] for row in found["layers"]} == {name: item.label for name, item in keys.items()}
    assert not any(name in found["suggestion"] for name in keys)
    assert main(["inspect", model]) == 0
    out = capsys.readouterr().out
    assert "bert.encoder.layer.1.attention.self.key" in out and "node_MatMul" not in out


def test_a_layer_without_a_named_weight_goes_by_its_own_name() -> None:
    assert Layer("/encoder/layer.0/MatMul", "MatMul", 4, "t").label == ""
