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


def parity(exporter_name: str, kind: str, folder: Path, serve: dict[str, Any] | None = None, wrong: str = "") -> Any:
    """Export, run on the real runtime, compare. wrong: field of the reference's preprocessing to disturb."""
    from edgeft.pipeline.steps.answers import logits_of

    model, context = make(folder, kind, serve or {})
    prepared = context.prepared
    assert prepared is not None
    exporter, device = plugins.load("exporters", exporter_name)(), load_device("local-cpu")
    out = folder / "out"
    out.mkdir()
    facts = exporter.export(model, exporter.settings(device, SERVE), out, context)
    artifact = Artifact(exporter.makes, out, "1" * 64, facts)
    feeds = pixels(context)
    if wrong:
        stated = json.loads((prepared / "preprocess.json").read_text())
        stated["image"][wrong] = {"mean": [0.485, 0.456, 0.44], "order": "BGR", "std": [0.25, 0.22, 0.22]}[wrong]
        (prepared / "preprocess.json").write_text(json.dumps(stated))
    return prove_parity(
        logits_of(model, None, context), device, exporter.runtime, artifact, exporter.signature(artifact), feeds,
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


@pytest.mark.parametrize("wrong", ["mean", "std", "order"])
def test_other_preprocessing_than_stated_fails(wrong: str, tmp_path: Path) -> None:
    assert not parity("onnx", "vit", tmp_path, wrong=wrong).passed


@pytest.mark.parametrize("serve", [{"source": (24, 20)}, {"embed_preprocessing": "none"}])
def test_resizing_inside_and_nothing_inside(serve: dict[str, Any], tmp_path: Path) -> None:
    row = parity("onnx", "vit", tmp_path, serve)
    assert row.passed, row
