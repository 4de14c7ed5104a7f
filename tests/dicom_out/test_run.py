"""`edgeft run --dicom` with bundles that a build wrote: what is written, what is refused, and that nothing is left then."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")
ort = pytest.importorskip("onnxruntime")

from edgeft.cli import main  # noqa: E402
from edgeft.cli.run_dicom import _show_slices  # noqa: E402
from edgeft.medical.dicom_out import write  # noqa: E402
from edgeft.medical.read import read_mask, read_volume  # noqa: E402
from edgeft.ship.dicom import answer  # noqa: E402
from edgeft.ship.verify import NOT_SHIPPED  # noqa: E402
from tests.dicom_out.conftest import Validator, reseal, restate  # noqa: E402
from tests.dicom_out.material import (  # noqa: E402
    NAME,
    drawn,
    feet_first,
    oblique,
    write_ct,
    write_dx,
    write_enhanced_ct,
)

pytestmark = pytest.mark.ml

LABELS = ["nothing", "square", "disc"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """run(bundle, source, out, *options): (exit code, standard output, standard error) of the command."""

    def go(bundle: Path, source: Path, out: Path, *options: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["run", str(bundle), "--dicom", str(source), "--out", str(out), *options])
        said = capfd.readouterr()
        return code, said.out, said.err

    return go


def only(folder: Path) -> Path:
    """The one file of a folder."""
    (path,) = folder.iterdir()
    return path


def network(bundle: Path, grey: Any) -> Any:
    """Logits (n, classes, ...) by ONNX Runtime alone. grey: uint8 (n, rows, columns) at the network's size."""
    session = ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": np.repeat(grey[..., None], 3, axis=3)})[0]


@pytest.mark.parametrize("axes", [oblique, feet_first])
def test_a_series_becomes_a_segmentation(
    masks: Path, run: Run, tmp_path: Path, errors_of: Validator, axes: Any
) -> None:
    values, truth = drawn(np.random.default_rng(900), slices=5, side=24)
    write_ct(tmp_path / "series", values, axes())
    code, out, err = run(masks, tmp_path / "series", tmp_path / "out", "--json")
    assert code == 0, err
    path = only(tmp_path / "out")
    said = json.loads(out)
    assert said["object"] == str(path) and said["slices"] == 5 and set(said["shares"]) == {"square", "disc"}
    assert errors_of(path) == []
    found = read_mask(path, read_volume(tmp_path / "series"), LABELS)
    turn = (1, 2) if axes is feet_first else ()  # "plane" shows rows towards the back and columns towards the left
    grey = np.rint(np.clip(values / np.float32(255), 0, 1) * 255).astype(np.uint8)
    wanted = np.flip(network(masks, np.flip(grey, turn)).argmax(axis=1), turn)
    assert np.array_equal(found, wanted)
    assert (found == 1)[truth == 1].mean() > 0.5 and not np.array_equal(found, np.flip(found, (1, 2)))


def test_codes_come_from_the_bundle_and_the_file_comes_first(masks: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(901), slices=2, side=24)
    write_ct(tmp_path / "series", values, oblique())
    code, _, err = run(masks, tmp_path / "series", tmp_path / "one")
    assert code == 0 and "no code is stated for square:" in err
    square, disc = pydicom.dcmread(only(tmp_path / "one")).SegmentSequence
    assert disc.SegmentedPropertyTypeCodeSequence[0].CodeValue == "91772007"
    assert square.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99EDGEFT"
    stated = {name: {"value": f"X{place}", "scheme": "99LOCAL", "meaning": name} for place, name in enumerate(LABELS)}
    (tmp_path / "codes.json").write_text(json.dumps(stated))
    codes = ("--codes", str(tmp_path / "codes.json"), "--manufacturer", "My Clinic", "--qualification", "product")
    code, _, err = run(masks, tmp_path / "series", tmp_path / "two", *codes)
    assert code == 0 and err == ""
    made = pydicom.dcmread(only(tmp_path / "two"))
    assert [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in made.SegmentSequence] == ["X1", "X2"]
    assert (made.Manufacturer, made.ContentQualification, made.ManufacturerModelName) == (
        "My Clinic",
        "PRODUCT",
        "tiny",
    )
    assert "CodingSchemeIdentificationSequence" not in made


def test_slices_of_another_size_come_back_to_their_own_grid(
    masks: Path, run: Run, tmp_path: Path, errors_of: Validator
) -> None:
    small, truth = drawn(np.random.default_rng(902), slices=4, side=24)
    values, truth = np.kron(small, np.ones((1, 3, 2))).astype(np.int16), np.kron(truth, np.ones((1, 3, 2), np.uint8))
    source = write_enhanced_ct(tmp_path / "many.dcm", values, oblique(), [2, 0, 3, 1])
    code, _, err = run(masks, source, tmp_path / "out")
    assert code == 0, err
    assert errors_of(only(tmp_path / "out")) == []
    found = read_mask(only(tmp_path / "out"), read_volume(source), LABELS)
    assert found.shape == (4, 72, 48)

    def dice(one: Any, two: Any) -> float:
        return float(2 * (one & two).sum() / (one.sum() + two.sum()))

    right = dice(found == 1, truth == 1)
    for wrong in (np.flip(truth, 0), np.flip(truth, 1), np.flip(truth, 2)):
        assert right > 0.6 and right > dice(found == 1, wrong == 1) + 0.2


def test_an_edge_lies_where_the_network_is_undecided() -> None:
    from edgeft.ship.dicom.pixels import classes_at

    logits = np.zeros((2, 1, 2))
    logits[0, 0] = [2.0, -1.0]  # undecided at two thirds of the way between the two centres for logits
    assert classes_at(logits, 1, 2).tolist() == [[0, 1]]
    fine = classes_at(logits, 1, 200)[0]
    share = np.exp([2.0, -1.0]) / (1 + np.exp([2.0, -1.0]))  # probabilities at the centres, 50 and 150
    wanted = 50 + 100 * (share[0] - 0.5) / (share[0] - share[1])
    assert abs(int((fine == 0).sum()) - wanted) <= 1 and fine[:50].max() == 0 and fine[-50:].min() == 1


def test_a_radiograph_becomes_a_report(classes: Path, run: Run, tmp_path: Path, errors_of: Validator) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    place = int(np.flatnonzero(digits.target == 1)[150])
    pixels = (np.kron(digits.images[place], np.ones((2, 2))) * 15.9).astype(np.uint16)
    plain = write_dx(tmp_path / "plain.dcm", pixels)
    swapped = write_dx(tmp_path / "swapped.dcm", 3840 + pixels, inverted=True)  # stored as 255 - pixels
    found = {}
    for path in (plain, swapped):
        code, out, err = run(classes, path, tmp_path / path.stem, "--json")
        assert code == 0, err
        (found[path.stem],) = json.loads(out)["findings"]
        assert errors_of(only(tmp_path / path.stem)) == []
    assert found["plain"] == found["swapped"], "the same picture, by either photometric interpretation"
    logits = network(classes, pixels[None].astype(np.uint8))[0]
    wanted = np.exp(logits) / np.exp(logits).sum()
    assert np.allclose([found["plain"]["probabilities"][label] for label in "012"], wanted, atol=1e-5)
    assert found["plain"]["label"] == "012"[int(wanted.argmax())]
    (group,) = hd.sr.srread(only(tmp_path / "plain")).content.get_image_measurement_groups()
    assert group.finding_type.meaning == found["plain"]["label"]
    shares = {item.name.meaning: float(item.value) for item in group.get_measurements() if item.unit.value == "1"}
    assert shares == {label: round(share, 6) for label, share in found["plain"]["probabilities"].items()}
    assert group.source_images[0].referenced_sop_instance_uid == pydicom.dcmread(plain).SOPInstanceUID


def test_a_frozen_threshold_decides_and_is_told(classes: Path, run: Run, tmp_path: Path, errors_of: Validator) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (np.kron(digits.images[int(np.flatnonzero(digits.target == 1)[150])], np.ones((2, 2))) * 15.9).astype(
        np.uint16
    )
    image = write_dx(tmp_path / "plain.dcm", pixels)
    shares = json.loads(run(classes, image, tmp_path / "before", "--json")[1])["findings"][0]["probabilities"]
    least = min(shares, key=lambda label: shares[label])
    copy = tmp_path / "bundle"
    shutil.copytree(classes, copy)
    stated = json.loads((copy / "postprocess.json").read_text())
    stated["thresholds"] = {least: shares[least] / 2}
    (copy / "postprocess.json").write_text(json.dumps(stated))
    reseal(copy)
    code, out, err = run(copy, image, tmp_path / "after", "--json")
    assert code == 0, err
    assert json.loads(out)["findings"][0]["label"] == least, "the unlikeliest, since its threshold is reached"
    report = only(tmp_path / "after")
    assert errors_of(report) == []
    (group,) = hd.sr.srread(report).content.get_image_measurement_groups()
    assert group.finding_type.meaning == least
    assert f"threshold {least}={shares[least] / 2:.6g}".encode() in report.read_bytes()


def test_a_series_of_findings_is_told_in_short(classes: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(903), slices=7, side=16)
    write_ct(tmp_path / "series", values, oblique())
    code, out, _ = run(classes, tmp_path / "series", tmp_path / "out")
    assert code == 0 and out.count("slice ") == 5 and "and 2 more; --json gives all" in out
    assert len(hd.sr.srread(only(tmp_path / "out")).content.get_image_measurement_groups()) == 7


def test_how_many_slices_are_run_at_a_time_changes_nothing(
    masks: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, _ = drawn(np.random.default_rng(904), slices=5, side=24)
    write_ct(tmp_path / "series", values, oblique())
    volume, found = read_volume(tmp_path / "series"), []
    for size in (1, 2, 16):
        monkeypatch.setattr(answer, "SLICES", size)
        assert run(masks, tmp_path / "series", tmp_path / f"out{size}")[0] == 0
        found.append(read_mask(only(tmp_path / f"out{size}"), volume, LABELS))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2]) and found[0].any()


def test_nobody_is_named_but_in_the_object(masks: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(905), slices=2, side=24)
    write_ct(tmp_path / "series", values, oblique(), PatientID="MARKER-ID", InstitutionName="MARKER-PLACE")
    code, out, err = run(masks, tmp_path / "series", tmp_path / "out")
    made = pydicom.dcmread(only(tmp_path / "out"))
    assert code == 0 and made.PatientID == "MARKER-ID" and made.PatientName == NAME
    assert "MARKER" not in out + err + only(tmp_path / "out").name and "ller" not in out + err
    (tmp_path / "series/IM0000.dcm").write_bytes((tmp_path / "series/IM0000.dcm").read_bytes()[:900])
    code, out, err = run(masks, tmp_path / "series", tmp_path / "other")
    assert code == 3 and "MARKER" not in out + err and "IM0000.dcm" in err


def test_what_is_refused_leaves_nothing(masks: Path, classes: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(906), slices=3, side=24)
    series, out = tmp_path / "series", tmp_path / "result/out"
    write_ct(series, values, oblique())
    write_ct(tmp_path / "two/a", values, oblique())
    write_ct(tmp_path / "two/b", values, oblique())
    write_dx(tmp_path / "chest.dcm", values[0].astype(np.uint16))
    write_ct(tmp_path / "coarse", values, oblique(), PixelSpacing=[2.5, 2.5])
    (tmp_path / "codes.json").write_text('{"kidney": {"value": "1", "scheme": "SCT", "meaning": "Kidney"}}')
    (tmp_path / "a file").write_text("")
    pictures = restate(masks, tmp_path / "pictures", medical=None)

    def refused(words: str, code: int, bundle: Path = masks, source: Path = series, to: Path = out, *more: str) -> None:
        found, said, err = run(bundle, source, to, *more)
        assert (found, said) == (code, "") and words in err and "hint: " in err and "Traceback" not in err, err
        assert not (tmp_path / "result").exists()

    refused("holds 2 series", 3, source=tmp_path / "two")
    refused("they are DX, it takes CT", 2, source=tmp_path / "chest.dcm")
    refused("2.5 x 2.5 mm apart, it takes 0.5 to 2 mm", 2, source=tmp_path / "coarse")
    refused("takes pictures, not DICOM", 3, bundle=pictures)
    refused("is no folder", 2, to=tmp_path / "a file")
    refused("holds 3 files already", 2, to=series)
    refused("no such file", 2, source=tmp_path / "nowhere")
    refused("'kidney' is no label", 2, masks, series, out, "--codes", str(tmp_path / "codes.json"))
    refused("--manufacturer", 2, masks, series, out, "--manufacturer", "a\\b")
    (tmp_path / "noise.dcm").write_bytes(bytes(500))
    refused("no DICOM file", 3, source=tmp_path / "noise.dcm")


def test_options_that_do_not_go_together(masks: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for options, words in (
        (["--dicom", "x"], "--out FOLDER"),
        (["picture.png", "--dicom", "x", "--out", "y"], "exclude each other"),
        (["picture.png", "--out", "y"], "goes with --dicom"),
        ([], "give INPUT"),
    ):
        assert main(["run", str(masks), *options]) == 2
        assert words in capfd.readouterr().err


def test_one_of_several_series_is_named(masks: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(907), slices=2, side=24)
    write_ct(tmp_path / "both/a", values, oblique())
    write_ct(tmp_path / "both/b", values, oblique(), SeriesNumber=8)
    assert run(masks, tmp_path / "both", tmp_path / "out", "--series", "8")[0] == 0
    assert pydicom.dcmread(only(tmp_path / "out")).SeriesNumber == 1008


def test_force_writes_beside_and_replaces_nothing(masks: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(908), slices=2, side=24)
    write_ct(tmp_path / "series", values, oblique())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("kept")
    (tmp_path / "out/.edgeft-killed").mkdir()
    assert run(masks, tmp_path / "series", tmp_path / "out")[0] == 2
    assert run(masks, tmp_path / "series", tmp_path / "out", "--force")[0] == 0
    assert run(masks, tmp_path / "series", tmp_path / "out", "--force")[0] == 0
    assert len(list((tmp_path / "out").glob("seg-*.dcm"))) == 2
    assert (tmp_path / "out/notes.txt").read_text() == "kept"


def test_a_disk_that_is_full_leaves_no_half_object(
    masks: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, _ = drawn(np.random.default_rng(909), slices=2, side=24)
    write_ct(tmp_path / "series", values, oblique())
    monkeypatch.setattr(write, "LARGEST", 0)  # the child may write 4 bytes for each of the mask: less than it needs
    code, _, err = run(masks, tmp_path / "series", tmp_path / "out")
    assert code == 3 and "cannot be written" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["series"]


def test_a_machine_that_answers_otherwise_writes_nothing(masks: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(910), slices=2, side=24)
    write_ct(tmp_path / "series", values, oblique())
    other = tmp_path / "bundle"
    shutil.copytree(masks, other)
    index = json.loads((other / "golden/index.json").read_text())
    kept = other / "golden" / index["outputs"]["logits"]["file"]
    np.save(kept, np.load(kept) + 1)
    reseal(other)
    code, _, err = run(other, tmp_path / "series", tmp_path / "out")
    assert code == 3 and "golden cases" in err and "off by" in err and not (tmp_path / "out").exists()


def test_what_did_not_pass_says_so_in_the_object(masks: Path, run: Run, tmp_path: Path) -> None:
    values, _ = drawn(np.random.default_rng(911), slices=2, side=24)
    write_ct(tmp_path / "series", values, oblique())
    other = tmp_path / "rejected"
    shutil.copytree(masks, other)
    (other / NOT_SHIPPED).write_text("refused")
    reseal(other, status="failed")
    code, _, err = run(other, tmp_path / "series", tmp_path / "out")
    assert code == 0 and "did not pass its gates" in err
    made = pydicom.dcmread(only(tmp_path / "out"))
    assert made.SeriesDescription == "NOT RELEASED, gates failed: tiny segmentation"


def test_slices_are_counted_on_a_terminal_only() -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as screen:
        show = _show_slices(screen)
        show(16, 20)
        show(20, 20)
        said = b""
        while not said.endswith(b"\n"):  # a terminal gives what is there so far
            said += os.read(master, 100)
        assert said == b"\r16/20 slices\r20/20 slices\r\n"
    os.close(master)
    plain = io.StringIO()
    _show_slices(plain)(20, 20)
    assert plain.getvalue() == ""
