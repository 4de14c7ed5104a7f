"""A scanner whose slices are answered worse ends a build that looks good in the whole: a real brain template, the real
command. The network is made to fail there on purpose: it answers nothing but background where no pixel is quite dark,
which is so on the noisy scanner alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml

NET = '''\
import torch


class Levels(torch.nn.Module):
    """The nearest of three grey levels (halfway between them lies no pixel); blind to images without black, if it is told to be."""

    def __init__(self, num_labels):
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor([85.5, 155.5, 225.5]).reshape(1, 3, 1, 1))

    def forward(self, x):
        grey = (x + 1) * 127.5
        logits = -(grey - self.levels).abs() / 16
        black = (grey < 0.5).float().mean(dim=(1, 2, 3), keepdim=True)
        seen = (black > 0.05).float() if BLIND else torch.ones_like(black)
        first = torch.arange(3).reshape(1, 3, 1, 1) == 0
        return torch.where(first, logits + 100 * (1 - seen), logits)


def build(num_labels):
    return Levels(num_labels)
'''
RECIPE = """\
name: tiny
model: {code: net.py:build, weights: net.safetensors, tokenizer: grey, task: segmentation}
data:
  source: mni-slices
  options: {folder: slices}
  labels: [rest, grey, white]
  group: slab
  split: split
  unit: row
serve: {batch: 1}
seed: 3
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], optimise: size, candidates: [float]}
gates:
  - {metric: mean_dice, at_least: 0.3}
  - {metric: mean_dice, at_least: 0.3, by: scanner}
  - {metric: surface_dice_grey, tolerance_mm: 2, at_least: 0.3, by: scanner, severity: warn}
  - {metric: hd95_mm_white, at_worst: 40, at_most: 25, by: scanner, severity: warn}
  - {metric: mean_hd95_mm, no_worse_than: source, margin: 4, at_worst: 20, severity: warn}
  - {metric: hd95_mm_white, cases_losing: 3, at_most: 0.1}
"""


def build(tmp_path: Path, blind: bool, edit: Callable[[str], str] = str) -> tuple[Any, Workbench]:
    """(the finished command, its folder)."""
    import torch
    from safetensors.torch import save_file

    pytest.importorskip("nibabel")
    pytest.importorskip("nilearn")
    bench = Workbench(tmp_path, tmp_path / "store")
    (tmp_path / "net.py").write_text(f"BLIND = {blind}\n{NET}")
    save_file({"levels": torch.tensor([85.5, 155.5, 225.5]).reshape(1, 3, 1, 1)}, tmp_path / "net.safetensors")
    (tmp_path / "grey").mkdir()
    size = {"do_convert_rgb": False, "size": {"height": 192, "width": 80}, "image_mean": [0.5], "image_std": [0.5]}
    (tmp_path / "grey" / "preprocessor_config.json").write_text(json.dumps({**size, "channels": 1}))
    (tmp_path / "recipe.yaml").write_text(edit(RECIPE))
    return bench.run("build", "recipe.yaml"), bench


def parts_of(verdict: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["subgroup"]: part for part in verdict["parts"]}


def test_the_scanner_that_is_answered_worse_decides(tmp_path: Path) -> None:
    run, bench = build(tmp_path, blind=True)
    assert run.returncode == 1, run.stdout + run.stderr
    whole, by_scanner, surface, distance, against, losing = bench.record()["targets"][0]["verdicts"]
    assert (whole["status"], by_scanner["status"], by_scanner["subgroup"]) == ("PASS", "FAIL", "noise")
    statuses = {name: part["status"] for name, part in parts_of(by_scanner).items()}
    assert statuses == {"": "PASS", "plain": "PASS", "bias": "PASS", "noise": "FAIL"}
    assert "in scanner 'noise'" in run.stdout
    surfaces, distances = parts_of(surface), parts_of(distance)
    assert surfaces["noise"]["value"] < 0.1 < 0.6 < surfaces["plain"]["value"]
    assert distances["noise"]["value"] == 40 and distances["noise"]["status"] == "FAIL", (
        "the diagonal, cut at the worst"
    )
    assert distances["plain"]["value"] < 10
    assert against["value"] == 0 and losing["value"] == 0, "the source fails there in the same way"
    assert (bench.folder / "out/tiny/rejected/local-cpu").is_dir()
    figures = bench.record()["targets"][0]["gate_set"]["artefact"]
    assert figures["hd95_mm_white (at worst 40)"] == pytest.approx(distances[""]["value"])
    assert "surface_dice_grey within 2 mm" in figures


def test_the_same_network_with_its_eyes_open_passes_for_every_scanner(tmp_path: Path) -> None:
    run, bench = build(tmp_path, blind=False, edit=lambda text: text.replace("margin: 4", "margin: 8"))
    verdicts = bench.record()["targets"][0]["verdicts"]
    assert [verdict["status"] for verdict in verdicts[:4]] == ["PASS"] * 4, [verdict["why"] for verdict in verdicts]
    assert verdicts[4]["limit"] == 8 and verdicts[4]["method"].endswith("in [-20, 20]")
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_gate_in_mm_on_data_without_spacing_is_refused_by_plan(tmp_path: Path) -> None:
    from tests.pipeline.image_nets import UNET, write_shapes
    from tests.pipeline.test_images import MASKS

    bench = Workbench(tmp_path, tmp_path / "store")
    write_shapes(bench.folder / "shapes", cases=10)
    (bench.folder / "net.py").write_text(UNET)
    gate = "  - {metric: hd95_mm_disc, at_most: 3, at_worst: 20}\n"
    (bench.folder / "recipe.yaml").write_text(MASKS + gate)
    run = bench.run("plan", "recipe.yaml")
    assert run.returncode == 2 and "hd95_mm_disc is in mm, and the data do not say how large a pixel is" in run.stderr
    assert "options: {spacing: [0.7, 0.7]}" in run.stderr and "gates[2].metric" in run.stderr
    (bench.folder / "recipe.yaml").write_text(
        MASKS.replace("path: shapes", "path: shapes\n  options: {spacing: [1, 1]}") + gate
    )
    assert bench.run("plan", "recipe.yaml").returncode == 0
