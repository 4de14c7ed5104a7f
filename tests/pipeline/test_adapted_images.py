"""From base to int8 through the real command: adapters on networks that see, and MONAI's networks given as code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import Workbench
from tests.pipeline.image_nets import write_digits, write_shapes

pytestmark = [pytest.mark.ml, pytest.mark.slow]

VIT = Path(__file__).parents[2] / "recipes/vision/digits-vit"
SEGFORMER = {
    "architectures": ["SegformerForSemanticSegmentation"], "model_type": "segformer", "num_encoder_blocks": 2,
    "depths": [1, 1], "sr_ratios": [4, 2], "hidden_sizes": [16, 32], "patch_sizes": [7, 3], "strides": [4, 2],
    "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 16, "image_size": 32,
}  # fmt: skip
MONAI = """\
from monai.networks.nets import {net}


def build(num_labels):
    return {net}(spatial_dims=2, in_channels=3, out_channels=num_labels, {rest})
"""
NETS = {
    "UNet": "channels=(16, 32, 48), strides=(2, 2), num_res_units=1",
    "SegResNet": "init_filters=8, blocks_down=(1, 1), blocks_up=(1,)",
    "DynUNet": "kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[8, 12, 16]",
}
RECIPE = """\
name: tiny
{model}
{data}
seed: 3
steps:
  - finetune: {{id: base, method: full, max_steps: 6, batch_size: 8, learning_rate: 0.01}}
{adapt}
measure: {{protocol: none}}
targets:
  - {{device: local-cpu, export: [onnx], optimise: size, candidates: [float, int8-static]}}
gates:
  - {{metric: artifact_mb, at_most: 4}}
"""
SHAPES = """data: {source: image-masks, path: shapes, labels: [nothing, square, disc], group: patient,
  fractions: {train: 0.3, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.4}}
serve: {batch: 1, height: 32, width: 32}"""
DIGITS = """data: {source: image-folder, path: images,
  fractions: {train: 0.45, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.25}}
serve: {batch: 1, height: 32, width: 32}"""
ADAPT = "  - finetune: {{id: adapt, method: {method}, rank: 4, target_modules: {layers}, max_steps: 4, batch_size: 8, learning_rate: 0.01}}"


def model(name: str, folder: Path) -> tuple[str, str]:
    """The recipe's `model:` and `data:` of one case, its files written."""
    if name == "vit":
        write_digits(folder / "images")
        return f"model: {{path: {VIT}, initialise: true, task: image-classification}}", DIGITS
    write_shapes(folder / "shapes")
    if name == "segformer":
        (folder / "config").mkdir()
        (folder / "config/config.json").write_text(json.dumps(SEGFORMER))
        return "model: {path: config, initialise: true, task: segmentation}", SHAPES
    (folder / "net.py").write_text(MONAI.format(net=name, rest=NETS[name]))
    return "model: {code: net.py:build, initialise: true, task: segmentation}", SHAPES


@pytest.mark.parametrize(
    ("name", "method", "layers"),
    [
        ("vit", "lora", "all-linear"),
        ("segformer", "qlora", "all-linear"),
        ("UNet", "lora", "all-layers"),
        ("SegResNet", "", ""),
        ("DynUNet", "", ""),
    ],
)
def test_a_network_goes_from_base_to_int8(tmp_path: Path, name: str, method: str, layers: str) -> None:
    """Every part runs: a base, an adapter on it where one is asked for, the merge, both artefacts, equal answers."""
    bench = Workbench(tmp_path, tmp_path / "store")
    stated, data = model(name, tmp_path)
    adapt = ADAPT.format(method=method, layers=layers) if method else ""
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=stated, data=data, adapt=adapt))
    run = bench.run("build", "recipe.yaml", timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    record = bench.record()
    rows = {row["name"]: row for row in record["targets"][0]["candidates"]}
    assert rows["onnx/float"]["parity"]["passed"] and rows["onnx/int8-static"]["status"] in ("eligible", "chosen")
    assert rows["onnx/int8-static"]["bytes"] < rows["onnx/float"]["bytes"], "tiny weights: much of a file is its graph"
    steps = [row["id"] for row in record["steps"]]
    if method:
        assert steps.index("adapt/foreseen") < steps.index("base") < steps.index("merge")
        exact = record["merge"]["candidates"][-1]  # on the very weights that were trained on
        assert exact["max_logit_difference"] < 1e-3 and exact["kl"] < 1e-6
