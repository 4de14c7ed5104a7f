"""Bundles that take volumes: real MRI as NIfTI files, whole volumes answered by windows, and what does not fit them."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import cli
from edgeft.tasks.volume_segmentation import VolumeSegmentation
from tests.check import kit
from tests.check.conftest import Ask
from tests.check.test_no_torch import PRETEND, require_passed
from tests.medical.files import disc, write_dicom, write_table

pytestmark = pytest.mark.ml
pytest.importorskip("nilearn")
pytest.importorskip("nibabel")
LABELS = ("rest", "grey", "white")
PATCH = (12, 12, 16)
RULE = np.array([[0, 1, 2], [0, -130.5, -331]]) / 16
"""Slope and bias of each tissue: grey from 131 on, white from 201 on; right on most voxels of the template."""
WORSE = RULE[:, [0, 2, 1]]
"""Grey matter is called white, and white grey."""
MARGIN = "  - {metric: mean_dice, no_worse_than: source, margin: 0.3}\n"


def write_pair(root: Path, name: str, image: Any, mask: Any) -> None:
    """images/NAME and masks/NAME.nii.gz of (planes, rows, columns) that grow to S, A and R, of 1 mm."""
    import nibabel

    for folder, values in (("images", image), ("masks", mask)):
        nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), root / folder / f"{name}.nii.gz")


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gate blocks of mni-volumes that have any tissue, as pairs of NIfTI files."""
    from edgeft.data.sources.mni_slices import read_half
    from edgeft.data.sources.mni_volumes import blocks

    root = tmp_path_factory.mktemp("scans")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    brain, tissues = (half.transpose(2, 1, 0) for half in read_half())
    for block in blocks():
        if block.split == "gate" and tissues[block.at].any():
            write_pair(root, block.name, brain[block.at], tissues[block.at])
    return root


@pytest.fixture
def clinic(tmp_path: Path, scans: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the bundles base, same (the same function in another form) and bad; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEFT_PSEUDONYM_KEY", "a secret of the tests")
    (tmp_path / "scans").symlink_to(scans)
    kit.volume_bundle(tmp_path / "base", RULE, LABELS, PATCH, gates=MARGIN)
    kit.volume_bundle(tmp_path / "same", RULE, LABELS, PATCH, split=True)
    kit.volume_bundle(tmp_path / "bad", WORSE, LABELS, PATCH)
    return tmp_path


def write_cohort(clinic: Path, scans: Path) -> Path:
    """cohort/: the scans with cases.csv, four of each patient p0 to p4."""
    shutil.copytree(scans, clinic / "cohort")
    names = sorted(path.name for path in (scans / "images").iterdir())
    pairs = {name: (f"images/{name}", f"masks/{name}") for name in names}
    rows = [{"file": pairs[name][0], "mask": pairs[name][1], "patient": f"p{at // 4}"} for at, name in enumerate(names)]
    write_table(clinic / "cohort", rows)
    return clinic / "cohort"


def first(record: dict[str, Any]) -> dict[str, Any]:
    """The accuracy verdict."""
    found: dict[str, Any] = record["verdicts"][0]
    assert found["check"] == "accuracy"
    return found


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on stderr of a check that is refused as bad usage."""
    assert cli.main(["check", *words.split()]) == 2
    return capsys.readouterr().err


def test_the_same_network_in_another_form_passes_without_torch(clinic: Path) -> None:
    """Data, windows, both sides' answers and times."""
    words = "check same --baseline base --data scans --latency-margin 900% --size-margin 20% --json"
    done = subprocess.run([sys.executable, "-c", PRETEND, *words.split()], capture_output=True, text=True)
    assert done.returncode in (0, 5), done.stderr
    record = json.loads(done.stdout)
    require_passed(record)
    accuracy = first(record)
    assert accuracy["n"] == 20 and accuracy["candidate"] == accuracy["baseline"] > 0.8
    assert "released by" in accuracy["limit_from"]
    assert record["outputs"] == "the same answer on 322,560 of 322,560 voxels (100.00%)"
    assert any("timed on 40 windows of 12 x 12 x 16 voxels" in note for note in record["notes"])
    assert "slab" not in str(record), "names of files may be patients'"


def test_a_worse_network_fails_by_dice_of_whole_volumes(clinic: Path, scans: Path, ask: Ask) -> None:
    """The figures are those of a rule that sees one voxel, computed here without windows, grids or a runtime."""
    import nibabel

    code, record = ask("bad --baseline base --data scans --no-latency --metric dice_grey --margin 0.05")
    accuracy = first(record)
    assert code == 1 and accuracy["status"] == "FAIL" and "voxels (100.00%)" not in record["outputs"]
    assert accuracy["value"] == pytest.approx(accuracy["baseline"] - accuracy["candidate"])
    found: dict[str, list[float]] = {"candidate": [], "baseline": []}
    for path in sorted((scans / "images").iterdir()):
        image, mask = (np.asarray(nibabel.load(scans / name / path.name).dataobj) for name in ("images", "masks"))
        for side, weights in (("candidate", WORSE), ("baseline", RULE)):
            grey = (image[..., None] * weights[0] + weights[1]).argmax(axis=-1) == 1
            total, hits = grey.sum() + (mask == 1).sum(), (grey & (mask == 1)).sum()
            found[side].append(2 * hits / total if total else 1.0)
    for side, values in found.items():
        assert accuracy[side] == pytest.approx(np.mean(values), abs=1e-9)


@pytest.mark.slow
def test_distances_in_mm_have_their_own_rules(clinic: Path, ask: Ask) -> None:
    gates = (
        "  - {metric: hd95_mm_white, no_worse_than: source, margin: 3, at_worst: 10}\n"
        "  - {metric: surface_dice_grey, no_worse_than: source, margin: 0.3, tolerance_mm: 1}\n"
    )
    kit.volume_bundle(clinic / "mm", RULE, LABELS, PATCH, gates=gates)
    code, record = ask("same --baseline mm --data scans --no-latency --no-size")
    assert [row["status"] for row in record["verdicts"]] == ["PASS", "PASS"] and code == 0
    assert record["verdicts"][0]["name"].startswith("hd95_mm_white (at worst 10) no worse than the baseline by 3")
    code, record = ask("bad --baseline mm --data scans --no-latency --no-size")
    assert code == 1 and record["verdicts"][1]["status"] == "FAIL"


@pytest.mark.slow
def test_sides_that_resample_differently_are_compared_on_the_files_grid(clinic: Path, ask: Ask) -> None:
    """Each sees its own grid and grey levels; the truth is not resampled for the coarse one."""
    kit.volume_bundle(clinic / "coarse", RULE, LABELS, PATCH, medical={"spacing": [3, 3, 3], "orientation": "LPI"})
    code, record = ask("coarse --baseline base --data scans --no-latency --margin 0.05")
    assert code in (1, 5) and 0.3 < first(record)["candidate"] < first(record)["baseline"] - 0.05
    kit.volume_bundle(clinic / "turned", RULE, LABELS, PATCH, medical={"orientation": "ILP"})
    code, record = ask("turned --baseline base --data scans --no-latency --margin 0.3")
    assert code == 0 and "voxels (100.00%)" in record["outputs"]
    assert any("prepare their inputs differently" in note for note in record["notes"])


@pytest.mark.slow
def test_labels_in_another_order_are_compared_by_name(clinic: Path, ask: Ask) -> None:
    order = [2, 0, 1]
    kit.volume_bundle(clinic / "turned", RULE[:, order], [LABELS[place] for place in order], PATCH)
    code, record = ask("turned --baseline base --data scans --no-latency --margin 0.3")
    assert code == 0 and "voxels (100.00%)" in record["outputs"]


@pytest.mark.slow
def test_a_bare_model_is_read_as_a_recipe_says(clinic: Path, ask: Ask) -> None:
    (clinic / "net.py").write_text("")
    (clinic / "recipe.yaml").write_text(
        "name: own\nmodel: {code: net.py:build, initialise: true, task: volume-segmentation}\n"
        "data: {source: nifti, path: scans, labels: [rest, grey, white], options: {slices: whole, ungrouped: true}}\n"
        "preprocess: {window: [0, 255], orientation: RAS}\nserve: {depth: 12, height: 12, width: 16}\n"
        "targets: [{device: local-cpu}]\ngates: [{metric: dice_white, no_worse_than: source, margin: 0.3}]\n"
    )
    for name in ("bad", "same"):
        shutil.copy(clinic / name / "model.onnx", clinic / f"{name}.onnx")
    code, record = ask("same.onnx --baseline base/model.onnx --recipe recipe.yaml --data scans --no-latency --no-size")
    assert code == 0 and "gates[0] of recipe.yaml" in first(record)["limit_from"] and first(record)["n"] == 20
    code, record = ask("same.onnx --baseline base --data scans --no-latency --no-size")
    assert code == 0 and record["candidate"]["preprocessing"] == "that of the baseline's bundle"


@pytest.mark.slow
def test_patients_are_what_the_bundle_was_built_to_count(clinic: Path, scans: Path, ask: Ask) -> None:
    """cases.csv names them; that several volumes are of one is the baseline's recipe's word."""
    data = "  {source: nifti, path: elsewhere, group: patient, options: {slices: whole}}\n"
    kit.volume_bundle(clinic / "grouped", RULE, LABELS, PATCH, data=data, gates=MARGIN)
    write_cohort(clinic, scans)
    _, record = ask("same --baseline grouped --data cohort --no-latency --no-size")
    assert (record["data"]["n"], record["data"]["units"], record["data"]["unit"]) == (20, 5, "patient")
    assert "p0" not in str(record) and "slab" not in str(record)


@pytest.mark.slow
def test_patients_it_was_trained_on_are_found_behind_their_pseudonyms(clinic: Path, scans: Path, ask: Ask) -> None:
    """Groups as the data step of a build names them, on a machine with the same key."""
    from edgeft.data.build import build_dataset, read_split
    from edgeft.recipe.schema import Data

    cohort = write_cohort(clinic, scans)
    with (cohort / "cases.csv").open(newline="") as stream:
        homes = {"p0": "train", "p1": "calibration", "p2": "search", "p3": "gate", "p4": "gate"}
        rows = [{**row, "split": homes[row["patient"]]} for row in csv.DictReader(stream)]
    write_table(cohort, rows)
    spec = Data(
        source="nifti", path=str(cohort), labels=LABELS, group="patient", options={"slices": "whole"}, split="split"
    )
    (clinic / "dataset").mkdir()
    medical = {"window": [0, 255], "orientation": "RAS", "spacing": None, "invert": True}
    build_dataset(
        spec, 7, VolumeSegmentation(), clinic / "dataset", model_labels=None, trains=False, medical=medical, warn=print,
        progress=lambda *_: None,
    )  # fmt: skip
    groups = {
        path.stem: read_split(path).column("group").to_pylist() for path in (clinic / "dataset").glob("*.parquet")
    }
    kit.add_groups(clinic / "base", bytes(32), groups, "patient", source="nifti")
    (clinic / "salt.txt").write_text(bytes(32).hex())
    code, record = ask("same --baseline base --data cohort --no-latency --no-size --split-salt salt.txt")
    assert record["data"]["trained"] == 4 and code == 5 and "p0" not in str(record)
    assert "the baseline was trained on 4 of the 20 cases" in first(record)["why"]
    assert any("4 of calibration, 4 of search" in note for note in record["notes"])


@pytest.mark.slow
def test_groups_of_a_build_from_another_source_are_read_as_they_are_written(
    clinic: Path, scans: Path, ask: Ask
) -> None:
    write_cohort(clinic, scans)
    kit.add_groups(clinic / "base", bytes(32), {"train": ["p1", "p2"]}, "patient", source="mni-volumes")
    (clinic / "salt.txt").write_text(bytes(32).hex())
    code, record = ask("same --baseline base --data cohort --no-latency --no-size --split-salt salt.txt")
    assert code == 5 and record["data"]["trained"] == 8 and record["data"]["units"] == 20


@pytest.mark.slow
def test_series_are_counted_by_the_patients_they_name(clinic: Path, ask: Ask) -> None:
    """A baseline built from DICOM: its recipe names no column, its build counted patients."""
    pytest.importorskip("pydicom")
    import nibabel

    kit.volume_bundle(clinic / "dicom", RULE, LABELS, PATCH, data="  {source: dicom, path: elsewhere}\n", gates=MARGIN)
    rows = []
    for case in range(6):
        planes = [disc(case * 10 + place, True) // 4 for place in range(4)]
        for place, plane in enumerate(planes):
            series = clinic / f"cohort/series{case}/{place}.dcm"
            write_dicom(series, plane, patient=f"NAME{case // 2}", number=place + 1, position=2.0 * place)
        mask = (np.stack(planes) > 120).astype(np.uint8)
        drawn = nibabel.Nifti1Image(mask.transpose(2, 1, 0), np.diag([-0.8, -0.8, 2, 1]))
        nibabel.save(drawn, clinic / f"cohort/{case}.nii.gz")
        rows.append({"file": f"series{case}", "mask": f"{case}.nii.gz"})
    write_table(clinic / "cohort", rows)
    _, record = ask("same --baseline dicom --data cohort --no-latency --no-size")
    assert (record["data"]["n"], record["data"]["units"], record["data"]["unit"]) == (6, 3, "patient")
    assert first(record)["status"] == "INCONCLUSIVE" and "NAME" not in str(record)


@pytest.mark.slow
def test_a_volume_that_repeats_counts_once(clinic: Path, scans: Path, ask: Ask) -> None:
    shutil.copytree(scans, clinic / "twice")
    for folder in ("images", "masks"):
        for path in sorted((clinic / "twice" / folder).iterdir())[:6]:
            shutil.copy(path, path.with_name(f"again-{path.name}"))
    _, record = ask("same --baseline base --data twice --no-latency --no-size --margin 0.3")
    assert record["data"]["n"] == 26 and record["data"]["units"] == 20


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("table.csv", "this is no data for volume-segmentation"),
        ("classes", "neither cases.csv nor a folder 'images'"),
        ("pictures", "no image"),
        ("half", "has no file in masks/"),
        ("labelled", "has no mask"),
        ("absent", "there is no such file or folder"),
    ],
)  # fmt: skip
def test_data_of_another_kind_are_refused_with_what_is_wanted(
    data: str, said: str, clinic: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clinic / "table.csv").write_text("text,label\nx,grey\n")
    for folder in ("classes/grey", "pictures/images", "pictures/masks", "half/images", "half/masks", "labelled"):
        (clinic / folder).mkdir(parents=True)
    (clinic / "pictures/images/a.png").write_bytes(b"")
    one = next((scans / "images").iterdir())
    for place in ("half/images", "labelled"):
        shutil.copy(one, clinic / place / one.name)
    (clinic / "labelled/cases.csv").write_text(f"file,label\n{one.name},grey\n")
    found = refused(f"same --baseline base --data {data} --no-latency", capsys)
    assert said in found and "Traceback" not in found
    assert data == "absent" or "images/ and masks/" in found


def test_a_damaged_volume_is_named(clinic: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(scans, clinic / "cut")
    path = max((clinic / "cut/images").iterdir(), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:900])
    assert cli.main(["check", "same", "--baseline", "base", "--data", "cut", "--no-latency"]) == 3
    assert f"images/{path.name}" in capsys.readouterr().err


def test_times_of_different_windows_are_not_compared(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A larger window is slower and there are fewer of them: said before a file is opened."""
    kit.volume_bundle(clinic / "large", RULE, LABELS, (12, 24, 16), overlap=0.5)
    found = refused("large --baseline base --data nowhere", capsys)
    assert "window 12 x 24 x 16 against 12 x 12 x 16; overlap 0.5 against 0.25" in found and "--no-latency" in found


@pytest.mark.slow
def test_answers_by_different_windows_are_compared(clinic: Path, ask: Ask) -> None:
    kit.volume_bundle(clinic / "large", RULE, LABELS, (12, 24, 16), overlap=0.5)
    code, record = ask("large --baseline base --data scans --no-latency --margin 0.3")
    assert code == 0 and "voxels (100.00%)" in record["outputs"]


def test_a_metric_of_distances_asks_for_its_own_rule(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "same --baseline base --data scans --no-latency --metric"
    assert "say at_worst" in (found := refused(f"{words} mean_hd95_mm", capsys)) and "--recipe" in found
    assert "needs tolerance_mm" in refused(f"{words} surface_dice_grey", capsys)


def test_a_bare_model_of_another_window_is_refused_before_it_is_run(
    clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit.volume_model(clinic / "large.onnx", RULE, (12, 24, 16))
    found = refused("large.onnx --baseline base --data scans --no-latency --no-size", capsys)
    assert "candidate large.onnx: it takes batch x 12 x 24 x 16 x 1; the preprocessing" in found
    assert "makes windows of batch x 12 x 12 x 16 x 1" in found


def test_a_metric_that_is_code_is_refused_before_anything_is_read(
    clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clinic / "net.py").write_text("")
    (clinic / "score.py").write_text("def f(logits, labels, rows):\n    return logits\n")
    (clinic / "recipe.yaml").write_text(
        "name: own\nmodel: {code: net.py:build, initialise: true, task: volume-segmentation}\n"
        "data: {source: nifti, path: scans, labels: [rest, grey, white]}\n"
        "targets: [{device: local-cpu}]\n"
        "gates: [{metric: 'score.py:f', no_worse_than: source, margin: 0.3, at_worst: 1}]\n"
    )
    found = refused("same --baseline base --recipe recipe.yaml --data nowhere --no-latency", capsys)
    assert "those of whole volumes are not kept" in found and "mean_dice" in found


def test_without_nibabel_it_says_what_to_install(
    clinic: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeft.ship.check import scans

    monkeypatch.setattr(scans, "find_spec", lambda name: None)
    assert "pip install nibabel" in refused("same --baseline base --data scans --no-latency", capsys)
