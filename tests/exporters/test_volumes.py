"""Three-dimensional networks of MONAI in every format that takes them: a window of uint8 in, torch's logits out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.canonical import canonical_json
from edgeft.device.profile import load_device
from edgeft.stage import Context
from edgeft.targets.measure import run_outputs
from edgeft.targets.parity import prove_parity
from edgeft.task import declared_inputs
from edgeft.tasks.volume_spec import VolumeSpec, volume_json

pytestmark = [pytest.mark.ml, pytest.mark.slow]
pytest.importorskip("monai")

LABELS = ("rest", "grey", "white")
SIZE = 16
SERVE = {"batch": 1, "length": 64, "depth": SIZE, "height": SIZE, "width": SIZE}
NETS = {
    "UNet": "UNet(spatial_dims=3, in_channels=1, out_channels=num_labels, channels=(4, 8, 16), strides=(2, 2), "
    "num_res_units=1, norm='batch')",
    "SegResNet": "SegResNet(spatial_dims=3, in_channels=1, out_channels=num_labels, init_filters=8, "
    "blocks_down=(1, 1), blocks_up=(1,))",
    "DynUNet": "DynUNet(spatial_dims=3, in_channels=1, out_channels=num_labels, kernel_size=[3, 3, 3], "
    "strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[4, 8, 16])",
}


def make(folder: Path, net: str) -> tuple[Artifact, Context]:
    """(model with random weights, context with preprocessing)."""
    import runpy

    import torch
    from safetensors.torch import save_file

    prepared, model, scratch = folder / "prepared", folder / "model", folder / "scratch"
    for place in (prepared, model, scratch):
        place.mkdir(parents=True)
    spec = VolumeSpec(embed="pixels", depth=SIZE, height=SIZE, width=SIZE, largest=(SIZE, SIZE, SIZE))
    (prepared / "preprocess.json").write_bytes(canonical_json(volume_json("volume-segmentation", LABELS, spec)))
    (model / "net.py").write_text(
        f"from monai.networks.nets import {net}\n\n\ndef build(num_labels):\n    return {NETS[net]}\n"
    )
    torch.manual_seed(3)
    module = runpy.run_path(str(model / "net.py"))["build"](3)
    # DynUNet names one module twice; each name gets its own copy, as edgeft itself saves it.
    save_file({name: tensor.clone() for name, tensor in module.state_dict().items()}, model / "model.safetensors")
    artifact = Artifact("torch-model", model, "0" * 64, {"form": "code", "code": "net.py:build"})
    task = plugins.load("tasks", "volume-segmentation")()
    return artifact, Context("test", 0, scratch, task, LABELS, prepared=prepared)


def windows(n: int = 4) -> dict[str, Any]:
    values = np.random.default_rng(1).integers(0, 256, (n, SIZE, SIZE, SIZE, 1))
    return {"pixels": values.astype(np.uint8)}


def export(name: str, model: Artifact, context: Context, out: Path) -> tuple[Any, Artifact]:
    exporter = plugins.load("exporters", name)()
    out.mkdir()
    facts = exporter.export(model, exporter.settings(load_device("local-cpu"), SERVE), out, context)
    return exporter, Artifact(exporter.makes, out, "1" * 64, facts)


def parity(name: str, net: str, folder: Path) -> Any:
    """Export, run on the real runtime, compare with torch."""
    from edgeft.pipeline.steps.answers import logits_of

    model, context = make(folder, net)
    exporter, artifact = export(name, model, context, folder / "out")
    assert context.prepared is not None
    return prove_parity(
        logits_of(model, None, context), load_device("local-cpu"), exporter.runtime, artifact,
        exporter.signature(artifact), windows(), declared_inputs(context.prepared),
    )  # fmt: skip


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_window_in_torchs_logits_out(name: str, net: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    row = parity(name, net, tmp_path)
    assert row.passed, row


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_int8_of_three_dimensional_convolutions(name: str, net: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model, context = make(tmp_path, net)
    exporter, artifact = export(name, model, context, tmp_path / "out")
    device = load_device("local-cpu")
    variant = next(item for item in exporter.ladder(device) if item.name == "int8-static")
    small = tmp_path / "int8"
    small.mkdir()
    given: Any = windows(8)
    if variant.needs_statistics and hasattr(exporter, "calibrate"):
        kept = tmp_path / "statistics"
        kept.mkdir()
        facts = exporter.calibrate(artifact, exporter.settings(device, SERVE), given, kept, context)
        given = Artifact("statistics", kept, "2" * 64, facts)
    facts = exporter.compress(artifact, variant, given, small, context)
    compressed = Artifact(exporter.makes, small, "3" * 64, facts)
    plain, ours = (
        run_outputs(device, exporter.runtime, item, exporter.signature(item), windows(), batch=1)["logits"]
        for item in (artifact, compressed)
    )
    noise = float(np.square(plain - ours).mean() / np.square(plain - plain.mean()).mean())
    print(
        name,
        net,
        noise,
        sum(p.stat().st_size for p in small.iterdir()),
        sum(p.stat().st_size for p in (tmp_path / "out").iterdir()),
    )
    assert 0 < noise < 0.1
