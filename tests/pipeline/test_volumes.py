"""A network of volumes through the real command: trained on windows, exported, gated whole, run on a NIfTI file."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.conftest import Workbench

pytestmark = [pytest.mark.ml, pytest.mark.slow]
pytest.importorskip("nilearn")

NET = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, num_labels, 3, padding=1)
        )

    def forward(self, x):
        return self.body(x)


def build(num_labels):
    return Net(num_labels)
"""
RECIPE = """\
name: tiny
model: {code: net.py:build, initialise: true, task: volume-segmentation}
data:
  source: mni-volumes
  options: {scanners: [plain]}
  labels: [rest, grey, white]
  group: slab
  split: split
  unit: row
preprocess: {window: [0, 255], orientation: RAS}
serve: {batch: 1, depth: 12, height: 12, width: 16, overlap: 0.25}
seed: 3
steps:
  - finetune: {method: full, epochs: 4, windows: 2, batch_size: 4, learning_rate: 0.02, dice: 1.0}
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], optimise: size, candidates: [float]}
gates:
  - {metric: mean_dice, no_worse_than: source, margin: 0.3}
  - {metric: artifact_mb, at_most: 1}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    bench = Workbench(tmp_path_factory.mktemp("volumes"), tmp_path_factory.mktemp("store"))
    (bench.folder / "net.py").write_text(NET)
    (bench.folder / "recipe.yaml").write_text(RECIPE)
    run = bench.run("build", "recipe.yaml", timeout=900)
    assert run.returncode == 0, run.stderr + run.stdout
    return bench


def bundle(built: Workbench) -> Path:
    return built.folder / "out/tiny/targets/local-cpu"


def test_it_ends_in_a_bundle_that_takes_windows(built: Workbench) -> None:
    record = built.record()
    assert record["status"] == "passed"
    row = record["targets"][0]["candidates"][0]
    assert row["parity"]["passed"] and row["parity"]["shapes"][0] == "1x12x12x16x1"
    dice = {item["metric"]: item["value"] for item in row["metrics"]}["mean_dice"]
    assert 0.3 < dice <= 1, "a network that learnt something"
    assert {picture["rank"] for picture in record["targets"][0]["examples"]} == {"worst", "median", "best"}
    assert all(", plane " in picture["case"] for picture in record["targets"][0]["examples"])
    assert built.run("verify", str(bundle(built)), "--golden").stdout.count("pass  golden")


def test_the_bundles_own_python_test_passes(built: Workbench) -> None:
    done = subprocess.run(
        [sys.executable, str(bundle(built) / "samples/python/golden_test.py")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bundle_is_a_baseline_whose_figures_a_check_finds_again(built: Workbench) -> None:
    """The build's gate volumes as NIfTI files, masks on their own grid: the same Dice, voxel for voxel."""
    import onnx

    from edgeft.data.sources.mni_slices import read_half
    from edgeft.data.sources.mni_volumes import blocks

    cohort = built.folder / "cohort"
    brain, tissues = (half.transpose(2, 1, 0) for half in read_half())
    for folder, half in (("images", brain), ("masks", tissues)):
        (cohort / folder).mkdir(parents=True)
        for block in blocks():
            if block.split == "gate":
                write_volume(cohort / folder / f"{block.name}.nii.gz", half[block.at].transpose(2, 1, 0), np.eye(4))
    model = onnx.load(str(bundle(built) / "model.onnx"))
    model.producer_name = "someone else"
    onnx.save(model, str(built.folder / "new.onnx"))
    words = ["check", "new.onnx", "--baseline", "out/tiny", "--data", "cohort", "--latency-margin", "900%", "--json"]
    done = built.run(*words)
    assert done.returncode in (0, 5), done.stderr
    record = json.loads(done.stdout)
    accuracy = record["verdicts"][0]
    assert accuracy["status"] == "PASS" and accuracy["limit"] == 0.3 and "released by" in accuracy["limit_from"]
    with (bundle(built) / "cases.csv").open(newline="") as stream:
        cases = [float(row["artefact_mean_dice"]) for row in csv.DictReader(stream)]
    assert accuracy["n"] == len(cases) == 24 and accuracy["baseline"] == pytest.approx(np.mean(cases), abs=1e-5)
    assert accuracy["candidate"] == accuracy["baseline"] and "voxels (100.00%)" in record["outputs"]
    assert record["baseline"]["gated"] == "passed"


def write_volume(path: Path, values: Any, affine: Any) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def test_a_nifti_file_is_answered_on_its_own_grid_however_it_is_stored(built: Workbench) -> None:
    import nibabel

    from edgeft.data.sources.mni_slices import template_files

    file = nibabel.load(template_files()["t1"])
    whole = np.asarray(file.dataobj)[98:150, 60:100, 60:90]
    affine = file.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (98, 60, 60)
    write_volume(built.folder / "head.nii.gz", whole, affine)
    turned = whole.transpose(1, 2, 0)[::-1, :, ::-1]  # other axes, two of them reversed
    moved = affine[:, [1, 2, 0, 3]].copy()
    for axis, length in ((0, turned.shape[0]), (2, turned.shape[2])):
        moved[:3, 3] += moved[:3, axis] * (length - 1)
        moved[:3, axis] *= -1
    write_volume(built.folder / "turned.nii", turned, moved)
    said = built.run("run", "out/tiny", "head.nii.gz", "--json")
    assert said.returncode == 0, said.stderr
    answer = json.loads(said.stdout)
    assert answer["mask"] == "head-mask.nii.gz" and sum(answer["shares"].values()) == pytest.approx(1)
    assert built.run("run", "out/tiny", "turned.nii").returncode == 0
    plain, other = (nibabel.load(built.folder / name) for name in ("head-mask.nii.gz", "turned-mask.nii.gz"))
    for mask, own in ((plain, affine), (other, moved)):
        assert np.array_equal(mask.affine, own) and mask.get_data_dtype() == np.uint8
    ours = np.asarray(plain.dataobj)
    assert ours.shape == whole.shape and set(np.unique(ours)) == {0, 1, 2}
    assert answer["millilitres"]["grey"] == pytest.approx((ours == 1).sum() / 1000)
    assert (np.asarray(other.dataobj)[::-1, :, ::-1].transpose(2, 0, 1) == ours).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [("picture.png", "this bundle takes volumes"), ("absent.nii.gz", "no such file"), ("cut.nii.gz", "cut.nii.gz")],
)
def test_what_is_no_volume_is_refused_by_name(built: Workbench, name: str, said: str) -> None:
    (built.folder / "picture.png").write_bytes(b"x")
    (built.folder / "cut.nii.gz").write_bytes(b"\x1f\x8b\x08")
    done = built.run("run", "out/tiny", name)
    assert done.returncode in (2, 3) and said in done.stderr and "Traceback" not in done.stderr
    assert not list(built.folder.glob(f"{Path(name).stem.split('.')[0]}-mask*"))


def test_skipping_empty_windows_is_compared_with_the_source_that_runs_them_all(built: Workbench) -> None:
    """A level at which everything counts as empty: the source stays what it was, the artefact falls, the gate sees it."""
    recipe = RECIPE.replace("overlap: 0.25}", "overlap: 0.25, empty: 254}").replace("name: tiny", "name: skipped")
    (built.folder / "skipped.yaml").write_text(recipe)
    done = built.run("build", "skipped.yaml", timeout=900)
    record = built.record("skipped")
    assert done.returncode != 0 and record["status"] != "passed"
    row = record["targets"][0]["candidates"][0]
    assert row["status"] == "rejected" and "mean_dice drops" in row["why"]
