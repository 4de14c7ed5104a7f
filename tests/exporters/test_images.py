"""Every format on images: uint8 pixels in, against the torch model on values that numpy computed; a tiny net each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.device.profile import load_device
from edgeft.stage import Context
from edgeft.targets.parity import prove_parity
from edgeft.task import declared_inputs
from tests.pipeline.image_nets import CONV, UNET

pytestmark = pytest.mark.ml

LABELS = ("a", "b", "c")
SIZE = 16
SERVE = {"batch": 1, "length": 64, "height": SIZE, "width": SIZE}


def make(folder: Path, kind: str, serve: dict[str, Any], net: str = "") -> tuple[Artifact, Context]:
    """(model with decided answers, context with preprocessing) of a code net (`net`, or the kind's own) or a tiny ViT."""
    import torch

    name = "segmentation" if kind == "unet" else "image-classification"
    task = plugins.load("tasks", name)()
    prepared, model, scratch = folder / "prepared", folder / "model", folder / "scratch"
    for place in (prepared, model, scratch):
        place.mkdir(parents=True)
    torch.manual_seed(3)
    if kind == "vit":
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=SIZE,
                           patch_size=4, num_labels=3, initializer_range=0.3)  # fmt: skip
        ViTForImageClassification(config).save_pretrained(model)
        (model / "preprocessor_config.json").write_text(json.dumps(
            {"size": SIZE, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
        ))  # fmt: skip
        artifact = Artifact("torch-model", model, "0" * 64, {"form": "transformers"})
    else:
        import runpy

        from safetensors.torch import save_file

        (model / "net.py").write_text(net or (UNET if kind == "unet" else CONV))
        module = runpy.run_path(str(model / "net.py"))["build"](3)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, 0, 0.3)
        save_file(module.state_dict(), model / "model.safetensors")
        artifact = Artifact("torch-model", model, "0" * 64, {"form": "code", "code": "net.py:build"})
    task.prepare(model, {}, LABELS, {"height": SIZE, "width": SIZE, **serve}, prepared)
    return artifact, Context("test", 0, scratch, task, LABELS, prepared=prepared)


def pixels(context: Context, n: int = 6) -> dict[str, Any]:
    """Random pictures as canonical feeds."""
    assert context.prepared is not None
    spec = declared_inputs(context.prepared)[0]
    random = np.random.default_rng(1)
    shape = [n, *(int(size) for size in spec.shape[1:])]
    values = random.integers(0, 256, shape) if spec.dtype == "uint8" else random.normal(0, 1, shape)
    return {spec.name: values.astype(spec.dtype)}


def export(exporter_name: str, kind: str, folder: Path, serve: dict[str, Any] | None = None) -> tuple[Any, ...]:
    """(torch model, context, exporter, its float artefact) of such a net."""
    model, context = make(folder, kind, serve or {})
    exporter, device = plugins.load("exporters", exporter_name)(), load_device("local-cpu")
    out = folder / "out"
    out.mkdir()
    facts = exporter.export(model, exporter.settings(device, SERVE), out, context)
    return model, context, exporter, Artifact(exporter.makes, out, "1" * 64, facts)


def parity(exporter_name: str, kind: str, folder: Path, serve: dict[str, Any] | None = None, wrong: str = "") -> Any:
    """Export, run on the real runtime, compare. wrong: field of the reference's preprocessing to disturb."""
    from edgeft.pipeline.steps.answers import logits_of

    model, context, exporter, artifact = export(exporter_name, kind, folder, serve)
    prepared = context.prepared
    assert prepared is not None
    feeds = pixels(context)
    if wrong:
        stated = json.loads((prepared / "preprocess.json").read_text())
        stated["image"][wrong] = {"mean": [0.485, 0.456, 0.44], "order": "BGR", "std": [0.25, 0.22, 0.22]}[wrong]
        (prepared / "preprocess.json").write_text(json.dumps(stated))
    return prove_parity(
        logits_of(model, None, context), load_device("local-cpu"), exporter.runtime, artifact, exporter.signature(artifact), feeds,
        declared_inputs(prepared),
    )  # fmt: skip


FORMATS = ("onnx", "openvino", "litert", "executorch", "ncnn", "ort")


@pytest.mark.parametrize("kind", ["conv", "vit", "unet"])
@pytest.mark.parametrize("name", FORMATS)
def test_pixels_in_equal_answers_out(name: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip(
        {"openvino": "openvino", "litert": "litert_torch", "executorch": "executorch", "ncnn": "ncnn"}.get(name, "onnx")
    )
    row = parity(name, kind, tmp_path)
    assert row.passed, row
    assert row.cases == 6


@pytest.mark.parametrize("kind", ["conv", "vit", "unet"])
def test_a_core_ml_package_of_an_image_net_computes_torchs_answers(kind: str, tmp_path: Path) -> None:
    """Core ML predicts on macOS alone: the package is read back and computed here. It takes pixels as int32."""
    pytest.importorskip("coremltools")
    from edgeft.artifact import entry_file
    from edgeft.pipeline.steps.answers import logits_of
    from edgeft.targets.measure import runtime_feeds
    from edgeft.targets.parity import TOLERANCE
    from tests.exporters.mil_numpy import evaluate

    model, context, exporter, artifact = export("coreml", kind, tmp_path)
    given = runtime_feeds(exporter.signature(artifact), pixels(context))["pixels"]
    assert given.dtype == np.int32
    package = entry_file(artifact.path)
    ours = np.concatenate([evaluate(package, {"pixels": image[None]})["logits"] for image in given])
    theirs = logits_of(model, None, context)(pixels(context))
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 0.1
    assert np.abs(ours - theirs).max() <= TOLERANCE["float32"] * max(1.0, float(np.abs(theirs).max()))


@pytest.mark.parametrize("wrong", ["mean", "std", "order"])
def test_other_preprocessing_than_stated_fails(wrong: str, tmp_path: Path) -> None:
    assert not parity("onnx", "vit", tmp_path, wrong=wrong).passed


@pytest.mark.parametrize("serve", [{"source": (24, 20)}, {"embed_preprocessing": "none"}])
def test_resizing_inside_and_nothing_inside(serve: dict[str, Any], tmp_path: Path) -> None:
    row = parity("onnx", "vit", tmp_path, serve)
    assert row.passed, row
