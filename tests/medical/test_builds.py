"""DICOM and NIfTI through the real command: one spec from file to verdict, and what happens where a side is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.medical.files import SIDE, chest_study, nifti_study
from tests.pipeline.conftest import Workbench

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")
pytestmark = pytest.mark.ml

TIMEOUT = 900
"""Seconds: a build takes half a minute on a quiet machine."""
MEMO = "memo.sqlite"
MARK = "ZZQXMARKER"
"""Stands in every identifying attribute, in one form or another."""
PHI = {
    "PatientName": f"{MARK}^NAME", "PatientBirthDate": "19010203", "AccessionNumber": f"{MARK}ACC",
    "InstitutionName": f"{MARK} Hospital", "ReferringPhysicianName": f"{MARK}^REF", "StudyDescription": f"{MARK} study",
    "SeriesDescription": f"{MARK} series", "PatientComments": f"{MARK} comment", "StationName": f"{MARK}ST",
    "OperatorsName": f"{MARK}^OP", "StudyID": f"{MARK}ID", "OtherPatientIDs": f"{MARK}OTHER",
}  # fmt: skip
NET = """\
import torch


def build(num_labels):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 3, stride=2, padding=1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(256, num_labels),
    )
"""
RECIPE = """\
name: tiny
model: {code: net.py:build, initialise: true, task: image-classification}
data:
  source: dicom
  path: study
  fractions: {train: 0.4, validation: 0.1, calibration: 0.1, search: 0.15, gate: 0.25}
  expect: {shape: [24, 20], range: [-1000, 2000], prevalence: {ill: [0.3, 0.7]}}
preprocess: {window: [-900, 600]}
serve: {batch: 1, height: 20, width: 16}
seed: 3
steps:
  - finetune: {method: full, epochs: 3, batch_size: 8, learning_rate: 0.01}
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], optimise: size, candidates: [float]}
gates:
  - {metric: artifact_mb, at_most: 1}
"""
OWN = '''\
import numpy as np
import pydicom
from PIL import Image


def f(path):
    """The user's own pipeline: pydicom, the window, Pillow's resize, ViT's normalisation."""
    item = pydicom.dcmread(path)
    values = item.pixel_array * float(item.RescaleSlope) + float(item.RescaleIntercept)
    shown = np.clip((values - LOW) / (HIGH - LOW), 0, 1).astype(np.float32)TURN
    small = np.asarray(Image.fromarray(shown, "F").resize((16, 20), Image.Resampling.BILINEAR))
    return np.repeat((small[None] - 0.5) / 0.5, 3, 0)
'''


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A finished build on DICOM files whose every identifying attribute holds MARK."""
    bench = Workbench(tmp_path_factory.mktemp("chest"), tmp_path_factory.mktemp("store"))
    chest_study(bench.folder / "study", patients=40, each=2, slope=1.5, intercept=-900.0, more=PHI)
    (bench.folder / "net.py").write_text(NET)
    (bench.folder / "recipe.yaml").write_text(RECIPE)
    run = bench.run("build", "recipe.yaml", timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr + run.stdout
    assert MARK not in run.stdout + run.stderr
    return bench


def test_pixels_are_what_the_declared_order_gives(bench: Workbench) -> None:
    record = bench.record()
    assert record["status"] == "passed"
    cases = [row.pop("cases") for row in record["preprocessing"]]
    assert cases[0] >= 4
    assert record["preprocessing"] == [
        {
            "against": "local-cpu", "how": "measured", "origin": "calibration set", "difference": 0.0,
            "tolerance": 1.0, "unit": "grey levels of 255", "passed": True, "pair": None,
        }
    ]  # fmt: skip
    assert record["targets"][0]["candidates"][0]["parity"]["passed"]
    assert record["data"]["unit"] == "patient"


def test_the_bundle_states_the_order_and_proves_it(bench: Workbench) -> None:
    bundle = bench.folder / "out/tiny/targets/local-cpu"
    stated = json.loads((bundle / "preprocess.json").read_text())
    assert stated["medical"] == {"window": [-900.0, 600.0], "orientation": "plane", "spacing": None, "invert": True}
    assert {path.name for path in (bundle / "preprocess").iterdir()} == {"reference.py", "order.py"}
    raw = json.loads((bundle / "golden/raw.json").read_text())
    assert raw and all(name.endswith(".npz") for name in raw)
    done = subprocess.run(
        [sys.executable, str(bundle / "samples/python/golden_test.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    verified = bench.run("verify", str(bundle), "--golden").stdout
    assert "intact" in verified and "slices become the kept pixels" in verified


def test_a_bundle_whose_window_changed_fails_its_golden_test(bench: Workbench, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(bench.folder / "out/tiny/targets/local-cpu", tmp_path / "copy")
    stated = json.loads((copy / "preprocess.json").read_text())
    stated["medical"]["window"] = [-900, 700]
    (copy / "preprocess.json").write_text(json.dumps(stated))
    done = subprocess.run([sys.executable, str(copy / "samples/python/golden_test.py")], capture_output=True, text=True)
    assert done.returncode == 1 and "is not what preprocessing made" in done.stdout + done.stderr


def test_nothing_that_identifies_is_left_anywhere(bench: Workbench) -> None:
    """Store, scratch, outcome and log: every file, names included. Patient IDs are ID0 to ID59."""
    seen = 0
    for root in (bench.store, bench.folder / "out"):
        for path in root.rglob("*"):
            assert MARK not in str(path)
            if not path.is_file():
                continue
            raw, seen = path.read_bytes(), seen + 1
            for word in (MARK.encode(), MARK.encode("utf-16-le"), b"19010203", b"p001-0.dcm", b'"ID1"'):
                # The store's memo knows files by path, so that an unchanged one is not hashed again.
                if not (word == b"p001-0.dcm" and path.name.startswith(MEMO)):
                    assert word not in raw, (path, word)
    assert seen > 50


@pytest.mark.parametrize(
    ("low", "turn", "passes"), [(-900, "", True), (-800, "", False), (-900, "[:, ::-1].copy()", False)]
)
def test_the_users_own_pipeline_is_compared(bench: Workbench, low: int, turn: str, passes: bool) -> None:
    own = OWN.replace("LOW", str(low)).replace("HIGH", "600").replace("TURN", turn)
    (bench.folder / "mine.py").write_text(own)
    run = bench.run(
        "build", "recipe.yaml", "--set", "preprocess.check_against=mine.py:f", "--set", "name=own", timeout=TIMEOUT
    )
    record = bench.record("own")
    row = record["preprocessing"][-1]
    assert row["against"] == "mine.py:f" and row["passed"] is passes
    if passes:
        assert run.returncode == 0, run.stdout + run.stderr
        assert row["difference"] < 0.01 and row["pair"] is None
        return
    assert run.returncode == 3, run.stdout + run.stderr
    assert "preprocessing differs: mine.py:f" in run.stderr and "Traceback" not in run.stderr
    page = (bench.folder / "out/own/report.html").read_text()
    for picture in ("ours", "theirs", "difference"):
        assert row["pair"][picture] in page
    assert not [step for step in record["steps"] if step["id"] == "finetune" and step["state"] == "ran"]


BREAKS = {
    "flip": "_fit = reference.fit\nreference.fit = lambda plane, image: _fit(plane, image)[:, ::-1]\n",
    "window": "_unpack = reference.unpack\nreference.unpack = lambda raw: (_unpack(raw)[0] + 40, *_unpack(raw)[1:])\n",
}


@pytest.fixture
def broken(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A start-up file that makes the copy which travels to the target differ from the one that training runs."""
    from edgeft.medical import reference

    own = Path(str(reference.__file__)).read_text()
    change = BREAKS[request.param].replace("reference.", "")
    for name in ("fit", "unpack"):
        change = change.replace(f"{name} = lambda", f"{name} = lambda")
    (tmp_path / "reference.py").write_text(own + "\n\n" + change)
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib\n"
        "from edgeft.targets import preprocessing\n"
        "_files = preprocessing.reference_files\n"
        f"preprocessing.reference_files = lambda: (pathlib.Path({str(tmp_path / 'reference.py')!r}), _files()[1])\n"
    )
    yield tmp_path


@pytest.mark.parametrize("broken", ["flip", "window"], indirect=True)
def test_a_target_that_preprocesses_otherwise_fails_the_build(
    bench: Workbench, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(broken))
    run = bench.run("build", "recipe.yaml", "--set", "name=broken", timeout=TIMEOUT)
    record = bench.record("broken")
    assert run.returncode == 3, run.stdout + run.stderr
    assert "preprocessing differs: local-cpu" in run.stderr
    row = record["preprocessing"][0]
    assert not row["passed"] and row["difference"] > 1 and row["pair"]["theirs"] != row["pair"]["ours"]
    assert row["pair"]["theirs"] in (bench.folder / "out/broken/report.html").read_text()
    assert not (bench.folder / "out/broken/targets").exists()


SEGMENT = """\
name: seg
model: {code: seg.py:build, initialise: true, task: segmentation}
data:
  source: nifti
  path: volumes
  labels: [rest, box]
  group: patient
  options: {slices: labelled}
  fractions: {train: 0.4, validation: 0.1, calibration: 0.1, search: 0.15, gate: 0.25}
preprocess: {window: [0, 300], spacing: [1.5, 1.5]}
serve: {batch: 1, height: 16, width: 16}
bundle: {golden_rows: false}
steps:
  - finetune: {method: full, epochs: 10, batch_size: 4, learning_rate: 0.02, dice: 1.0}
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], optimise: size, candidates: [float]}
gates:
  - {metric: artifact_mb, at_most: 1}
"""
SEG = """\
import torch


def build(num_labels):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, num_labels, 3, padding=1)
    )
"""


def test_nifti_slices_to_a_segmentation_without_golden_rows(tmp_path: Path) -> None:
    """Masks lie on the declared grid, so the network can learn them; golden cases are built in, and proven too."""
    bench = Workbench(tmp_path, tmp_path / "store")
    nifti_study(tmp_path / "volumes", volumes=20)
    (tmp_path / "seg.py").write_text(SEG)
    (tmp_path / "recipe.yaml").write_text(SEGMENT)
    run = bench.run("build", "recipe.yaml", timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr + run.stdout
    record = bench.record("seg")
    assert record["source"]["mean_dice"] > 0.8, record["source"]
    bundle = tmp_path / "out/seg/targets/local-cpu"
    index = json.loads((bundle / "golden/index.json").read_text())
    assert index["from"] == "built in"
    pixels = np.load(bundle / "golden/inputs/pixels.npy")
    assert pixels.shape == (index["cases"], 16, 16, 3) and pixels.min() == 0 and pixels.max() == 255
    done = subprocess.run(
        [sys.executable, str(bundle / "samples/python/golden_test.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SIDE
