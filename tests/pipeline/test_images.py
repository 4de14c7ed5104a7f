"""Images through the real command: class folders and masks, networks given as code, trained from scratch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import Workbench
from tests.pipeline.image_nets import CONV, DIGITS, UNET, write_digits, write_shapes

pytestmark = pytest.mark.ml

CLASSES = (
    """\
name: tiny
model: {code: net.py:build, initialise: true, task: image-classification}
"""
    + DIGITS
    + """\
steps:
  - finetune: {method: full, epochs: 8, batch_size: 16, learning_rate: 0.01, augment: {shift: 0.1, brightness: 0.2}}
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], optimise: size, candidates: [float]}
gates:
  - {metric: accuracy, no_worse_than: source, margin: 0.08}
  - {metric: accuracy, at_least: 0.7}
"""
)
MASKS = """\
name: tiny
model: {code: net.py:build, initialise: true, task: segmentation}
data:
  source: image-masks
  path: shapes
  labels: [nothing, square, disc]
  group: patient
  fractions: {train: 0.3, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.4}
serve: {batch: 1, height: 24, width: 24}
seed: 3
steps:
  - finetune: {method: full, epochs: 12, batch_size: 8, learning_rate: 0.02, dice: 1.0, augment: {flip: true}}
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], optimise: size, candidates: [float]}
gates:
  - {metric: mean_dice, no_worse_than: source, margin: 0.4}
  - {metric: dice_square, at_least: 0.5}
"""


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A finished build of a classifier."""
    bench = Workbench(tmp_path_factory.mktemp("classes"), tmp_path_factory.mktemp("store"))
    write_digits(bench.folder / "images")
    (bench.folder / "net.py").write_text(CONV)
    (bench.folder / "recipe.yaml").write_text(CLASSES)
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    assert "Failed to load" not in run.stderr, "third-party noise belongs to the log file"
    return bench


def test_a_classifier_ends_in_a_bundle_that_takes_pixels(classes: Workbench) -> None:
    record = classes.record()
    assert record["status"] == "passed"
    target = record["targets"][0]
    parity = target["candidates"][0]["parity"]
    assert parity["passed"] and parity["max_abs"] < 1e-4 and parity["shapes"] == ["1x16x16x3", "3x16x16x3"]
    bundle = classes.folder / "out/tiny/targets/local-cpu"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["inputs"] == {"pixels": {"name": "pixels", "dtype": "uint8", "shape": ["batch", 16, 16, 3]}}
    stated = json.loads((bundle / "preprocess.json").read_text())["image"]
    assert (stated["embed"], stated["order"], stated["filter"], stated["mean"]) == (
        "pixels",
        "RGB",
        "bilinear",
        [0.5] * 3,
    )


def test_bytes_end_in_a_bundle_that_takes_files(tmp_path: Path) -> None:
    """The whole way: parity over golden files, int8 behind the decoder, gates and latency fed with files."""
    pytest.importorskip("onnxruntime_extensions")
    from PIL import Image

    bench = Workbench(tmp_path, tmp_path / "store")
    write_digits(bench.folder / "images")
    (bench.folder / "net.py").write_text(CONV)
    recipe = CLASSES.replace("width: 16}", "width: 16, embed_preprocessing: bytes}").replace(
        "protocol: none", "protocol: quick"
    )
    (bench.folder / "recipe.yaml").write_text(recipe.replace("[float]", "[float, int8-static]"))
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    candidates = {row["name"]: row for row in bench.record()["targets"][0]["candidates"]}
    parity = candidates["onnx/float"]["parity"]
    assert parity["passed"] and parity["max_abs"] < 1e-4 and parity["cases"] > 24, "golden files and search images"
    assert all("16 KB" in row["notes"][-1] for row in candidates.values())
    assert candidates["onnx/int8-static"]["latency"]["runs"] > 0
    manifest = json.loads((bench.folder / "out/tiny/targets/local-cpu/manifest.json").read_text())
    assert manifest["inputs"] == {"file": {"name": "file", "dtype": "uint8", "shape": [1, "bytes"]}}

    digit = Image.open(next((bench.folder / "images/0").glob("*.png"))).convert("RGB")
    digit.resize((70, 90)).save(bench.folder / "digit.jpg")
    digit.convert("L").save(bench.folder / "grey.jpg")
    run = bench.run("run", "out/tiny", "digit.jpg")
    assert run.returncode == 0 and run.stdout.startswith("0  "), run.stdout + run.stderr
    run = bench.run("run", "out/tiny", "grey.jpg")
    assert run.returncode == 3 and "grey.jpg: the artefact does not take it" in run.stderr
    assert "the file must be a JPEG in colour or a PNG" in run.stderr


def test_masks_come_out_of_files_too(tmp_path: Path) -> None:
    """Bytes for a segmentation, the whole way: parity, int8 behind the decoder, gates, golden cases, a mask of a JPEG."""
    pytest.importorskip("onnxruntime_extensions")
    from PIL import Image

    bench = Workbench(tmp_path, tmp_path / "store")
    write_shapes(bench.folder / "shapes")
    (bench.folder / "net.py").write_text(UNET)
    recipe = MASKS.replace("width: 24}", "width: 24, embed_preprocessing: bytes}")
    (bench.folder / "recipe.yaml").write_text(recipe.replace("[float]", "[float, int8-static]"))
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    rows = {row["name"]: row for row in bench.record()["targets"][0]["candidates"]}
    assert rows["onnx/float"]["parity"]["passed"] and rows["onnx/float"]["parity"]["cases"] > 18, "golden files too"
    dice = {name: next(m["value"] for m in row["metrics"] if m["metric"] == "mean_dice") for name, row in rows.items()}
    assert abs(dice["onnx/int8-static"] - dice["onnx/float"]) < 0.05
    manifest = json.loads((bench.folder / "out/tiny/targets/local-cpu/manifest.json").read_text())
    assert manifest["inputs"] == {"file": {"name": "file", "dtype": "uint8", "shape": [1, "bytes"]}}
    assert "pass  golden" in bench.run("verify", "out/tiny", "--golden").stdout

    shown = Image.open(bench.folder / "shapes/images/case000.png").convert("RGB")
    shown.resize((96, 72)).save(bench.folder / "large.jpg", quality=95)
    run = bench.run("run", "out/tiny", "large.jpg", "--json")
    assert run.returncode == 0, run.stderr
    truth = Image.open(bench.folder / "shapes/masks/case000.png")
    square = sum(value == 1 for value in truth.tobytes()) / (24 * 24)
    assert abs(json.loads(run.stdout)["shares"]["square"] - square) < 0.03


def test_the_dataset_outlives_its_source(classes: Workbench, tmp_path: Path) -> None:
    """Later steps read the images from the store: nothing is looked up in the folder they came from."""
    step = next(row for row in classes.record()["steps"] if row["id"] == "data")
    folder = classes.store / "objects" / step["digest"][:2] / step["digest"]
    from edgeft.data.pack import image_bytes
    from edgeft.data.table import read_split

    rows = read_split(folder / "gate.parquet")
    for name, raw in image_bytes(rows):
        assert raw == (classes.folder / "images" / name).read_bytes()
    taken = rows.take([2, 0])
    assert [name for name, _ in image_bytes(taken)] == rows.column("id").take([2, 0]).to_pylist()
    digests = rows.column("image").to_pylist()
    assert digests == [hashlib.sha256(raw).hexdigest() for _, raw in image_bytes(rows)]


def test_masks_end_in_gates_on_dice(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, tmp_path / "store")
    write_shapes(bench.folder / "shapes")
    (bench.folder / "net.py").write_text(UNET)
    (bench.folder / "recipe.yaml").write_text(MASKS)
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    target = bench.record()["targets"][0]
    assert target["candidates"][0]["parity"]["passed"]
    verdicts = {verdict["metric"]: verdict for verdict in target["verdicts"]}
    assert verdicts["mean_dice"]["status"] == verdicts["dice_square"]["status"] == "PASS"
    assert "betting bound" in verdicts["mean_dice"]["method"]
    assert verdicts["mean_dice"]["n"] == 2 * target["gate_set"]["units"], "two cases of each patient"
    from edgeft.data.table import read_split

    step = next(row for row in bench.record()["steps"] if row["id"] == "source/gate")
    data = next(row for row in bench.record()["steps"] if row["id"] == "data")
    outputs = bench.store / "objects" / step["digest"][:2] / step["digest"] / "outputs.npz"
    cases = target["gate_set"]["n"]
    assert [row["rank"] for row in target["examples"]] == ["worst", "median", "best"]
    seen = {row["case"] for row in target["examples"]}
    read = bench.store / "objects" / data["digest"][:2] / data["digest"]
    assert seen <= set(read_split(read / "search.parquet").column("id").to_pylist()), "the gate set is never shown"
    assert (bench.folder / "out/tiny/report.html").read_text().count("data:image/png;base64,") == 15, "five each"
    assert outputs.stat().st_size < cases * (24 * 24 + 3 * 4) + 2000, "class maps are kept, not logits per pixel"
