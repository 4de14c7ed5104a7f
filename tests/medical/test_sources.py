"""Medical files as rows: patients stay together, equal pixels are found, nothing of a name is kept, each refusal says
what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.data.build import build_dataset, read_split
from edgeft.data.pack import image_bytes
from edgeft.data.patients import UNGROUPED, default_group
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.medical import reference
from edgeft.recipe.images import Preprocess
from edgeft.recipe.schema import Data
from tests.medical.files import SIDE, chest_study, disc, nifti_study, write_dicom, write_nifti, write_table

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")


@pytest.fixture(autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFT_PSEUDONYM_KEY", "a secret of the tests")


class ImageTask:
    def __init__(self, name: str) -> None:
        self.name, self.columns = name, ("image",)


def build(out: Path, warnings: list[str] | None = None, by: tuple[str, ...] = (), **data: Any) -> dict[str, Any]:
    """The data step as a build runs it, with a window and the plane orientation."""
    out.mkdir(parents=True)
    task = "segmentation" if data.get("labels", ("",))[0] == "rest" else "image-classification"
    pre = Preprocess(**data.pop("preprocess", {"window": (0, 1000)}))
    spec = Data(**data)
    spec = spec.model_copy(update={"group": default_group(spec)})
    heard = warnings if warnings is not None else []
    return dict(
        build_dataset(
            spec, 7, ImageTask(task), out, model_labels=None, trains=True, by=by, medical=pre.medical,
            warn=heard.append, progress=lambda *_: None,
        )
    )  # fmt: skip


def rows_of(out: Path, facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**row, "split": name, "raw": raw}
        for name in facts["splits"]
        for table in [read_split(out / f"{name}.parquet")]
        for row, (_, raw) in zip(table.to_pylist(), image_bytes(table), strict=True)
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chest_study(tmp_path_factory.mktemp("chest"))


def test_dicom_rows_are_decoded_values_grouped_by_patient(study: Path, tmp_path: Path) -> None:
    facts = build(tmp_path / "out", by=("site", "modality"), source="dicom", path=str(study))
    rows = rows_of(tmp_path / "out", facts)
    assert len(rows) == 80 and facts["unit"] == "patient"
    homes: dict[str, set[str]] = {}
    for row in rows:
        homes.setdefault(row["group"], set()).add(row["split"])
    assert len(homes) == 40 and all(len(splits) == 1 for splits in homes.values())
    wanted = {disc(patient * 10 + image, patient % 2 == 1).tobytes() for patient in range(40) for image in range(2)}
    assert {reference.unpack(row["raw"])[0].tobytes() for row in rows} == wanted
    assert {row["by:site"] for row in rows} == {"north", "south"} and {row["by:modality"] for row in rows} == {"CT"}
    assert not list((tmp_path / "out").glob(".*")), "what was decoded is gone once the splits hold it"


def test_no_name_of_a_file_or_patient_is_kept(study: Path, tmp_path: Path) -> None:
    build(tmp_path / "out", source="dicom", path=str(study))
    for file in (tmp_path / "out").rglob("*"):
        raw = file.read_bytes()
        assert not any(word in raw for word in (b"p001", b"ID1", b"scans/", b".dcm")), file


def test_ids_lead_back_to_their_files(study: Path, tmp_path: Path) -> None:
    from edgeft.data.source import source_for

    facts = build(tmp_path / "out", source="dicom", path=str(study))
    spec = Data(source="dicom", path=str(study), group="patient")
    rows = rows_of(tmp_path / "out", facts)
    found = source_for(spec).locate(spec, None, [row["id"] for row in rows])
    for row in rows[:5]:
        path, place = found[row["id"]]
        patient, image = int(path.stem[1:4]), int(path.stem[-1])
        assert place is None
        assert np.array_equal(reference.unpack(row["raw"])[0][0], disc(patient * 10 + image, patient % 2 == 1))


def test_without_patient_ids_it_is_refused_unless_said(tmp_path: Path) -> None:
    root = chest_study(tmp_path / "data", patients=20, more={"PatientID": ""})
    with pytest.raises(StepError, match="40 of 40 cases have no Patient ID") as caught:
        build(tmp_path / "a", source="dicom", path=str(root))
    assert "ungrouped: true" in caught.value.hint and "data.group" in caught.value.hint
    heard: list[str] = []
    facts = build(tmp_path / "b", heard, source="dicom", path=str(root), options={"ungrouped": True})
    assert facts["unit"] == "row" and UNGROUPED in heard and UNGROUPED in facts["warnings"]


def test_a_named_column_groups_and_its_values_are_pseudonyms(tmp_path: Path) -> None:
    root = chest_study(tmp_path / "data", patients=20, more={"PatientID": ""})
    rows = [line.split(",") for line in (root / "cases.csv").read_text().splitlines()]
    table = [dict(zip((*rows[0], "mrn"), (*row, f"MRN-{row[0][6:10]}"), strict=True)) for row in rows[1:]]
    write_table(root, table)
    facts = build(tmp_path / "out", source="dicom", path=str(root), group="mrn")
    found = {row["group"] for row in rows_of(tmp_path / "out", facts)}
    assert len(found) == 20 and not any("MRN" in group for group in found)


@pytest.mark.parametrize("split", [True, False])
def test_equal_pixels_in_two_splits_are_an_error_naming_both(tmp_path: Path, split: bool) -> None:
    """The second file differs in every header field that may differ, so its bytes are no help."""
    root = chest_study(tmp_path / "data", patients=24, each=1)
    write_dicom(root / "again.dcm", disc(30, True), patient="ID77", number=9, series="1.2.77")
    lines = [line.split(",") for line in (root / "cases.csv").read_text().splitlines()[1:]]
    names = ["train"] * 14 + ["val"] * 2 + ["calibration"] * 2 + ["search"] * 2 + ["test"] * 4
    table = [{"file": file, "label": label, "part": part} for (file, label, _), part in zip(lines, names, strict=True)]
    table.append({"file": "again.dcm", "label": "ill", "part": "test" if split else "train"})
    write_table(root, table)
    options = {"source": "dicom", "path": str(root), "split": "part"}
    heard: list[str] = []
    if not split:
        facts = build(tmp_path / "out", heard, **options)
        assert facts["checks"]["repeated_images"] == 1
        assert any("1 images stand twice in one split" in text for text in heard)
        return
    with pytest.raises(
        StepError, match=r"the same image stands in two splits.* case-\w+ in train and case-\w+ in gate"
    ):
        build(tmp_path / "out", heard, **options)


def test_equal_pixels_stay_together_where_edgeft_divides(tmp_path: Path) -> None:
    root = chest_study(tmp_path / "data", patients=24, each=1)
    write_dicom(root / "again.dcm", disc(30, True), patient="ID77", number=9)
    with (root / "cases.csv").open("a") as stream:
        stream.write("again.dcm,ill,north\n")
    facts = build(tmp_path / "out", source="dicom", path=str(root))
    rows = rows_of(tmp_path / "out", facts)
    twins = [row for row in rows if np.array_equal(reference.unpack(row["raw"])[0][0], disc(30, True))]
    assert len(twins) == 2 and len({row["split"] for row in twins}) == 1 and len({row["group"] for row in twins}) == 2


def test_images_of_one_value_are_nobodys(tmp_path: Path) -> None:
    root = chest_study(tmp_path / "data", patients=24, each=1)
    with (root / "cases.csv").open("a") as stream:
        for number in range(4):
            write_dicom(root / f"empty{number}.dcm", np.zeros((SIDE, SIDE), np.int16), patient=f"E{number}")
            stream.write(f"empty{number}.dcm,well,north\n")
    assert build(tmp_path / "out", source="dicom", path=str(root))["checks"]["repeated_images"] == 0


def test_series_become_slices_only_when_said(tmp_path: Path) -> None:
    root, rows = tmp_path / "data", []
    for patient in range(30):
        for number in range(3):
            name = f"s{patient}/{number}.dcm"
            write_dicom(
                root / name, disc(patient * 9 + number, patient % 2 == 1), patient=f"P{patient}", number=number,
                position=2.0 * number, series=f"1.2.{patient + 5}",
            )  # fmt: skip
        rows.append({"case": f"s{patient}", "label": ("a", "b")[patient % 2]})
    write_table(root, rows)
    with pytest.raises(StepError, match="an image of 3 slices") as caught:
        build(tmp_path / "a", source="dicom", path=str(root))
    assert "slices: all" in caught.value.hint
    facts = build(tmp_path / "b", source="dicom", path=str(root), options={"slices": "all"})
    found = rows_of(tmp_path / "b", facts)
    assert len(found) == 90 and {row["id"][-5:] for row in found} == {"/0000", "/0001", "/0002"}


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ([{"file": "../out.dcm", "label": "a"}], "names no file below the folder"),
        ([{"file": "gone.dcm", "label": "a"}], "names a file that is not there"),
        ([{"file": "x.dcm", "label": ""}], "neither a label nor a mask"),
        ([{"name": "x.dcm", "label": "a"}], "no column 'file' or 'case'"),
    ],
)
def test_a_table_that_is_wrong(tmp_path: Path, table: list[dict[str, str]], what: str) -> None:
    root = tmp_path / "data"
    write_dicom(root / "x.dcm", disc(1, True))
    (tmp_path / "out.dcm").write_bytes(b"")
    write_table(root, table)
    with pytest.raises(EdgeftError) as caught:
        build(tmp_path / "out", source="dicom", path=str(root))
    assert what in caught.value.what and "cases.csv" in caught.value.where


def test_no_table_at_all(tmp_path: Path) -> None:
    write_dicom(tmp_path / "data/x.dcm", disc(1, True))
    with pytest.raises(RecipeError, match=r"there is no cases\.csv") as caught:
        build(tmp_path / "out", source="dicom", path=str(tmp_path / "data"))
    assert "columns: file" in caught.value.hint


def test_an_unreadable_file_stops_or_is_left_out(tmp_path: Path) -> None:
    root = chest_study(tmp_path / "data", patients=24, each=1)
    (root / "scans/p003-0.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 200)
    with pytest.raises(StepError) as caught:
        build(tmp_path / "a", source="dicom", path=str(root))
    assert "scans/p003-0.dcm" in caught.value.where
    heard: list[str] = []
    facts = build(tmp_path / "b", heard, source="dicom", path=str(root), options={"on_unreadable": "skip"})
    assert sum(about["n"] for about in facts["splits"].values()) == 23
    assert any("1 of 24 cases cannot be read" in text and "p003-0.dcm" in text for text in heard)


@pytest.mark.parametrize(("slices", "n"), [("all", 48), ("labelled", 24)])
def test_nifti_slices_and_their_masks(tmp_path: Path, slices: str, n: int) -> None:
    root = nifti_study(tmp_path / "data")
    options = {"source": "nifti", "path": str(root), "labels": ("rest", "box"), "group": "patient"}
    facts = build(tmp_path / "out", by=("scanner",), options={"slices": slices}, **options)
    rows = rows_of(tmp_path / "out", facts)
    assert len(rows) == n and {row["by:scanner"] for row in rows} == {"a", "b"}
    for name in facts["splits"]:
        table = read_split(tmp_path / "out" / f"{name}.parquet")
        for (_, raw), (_, mask) in zip(image_bytes(table), image_bytes(table, "mask_at", "mask_size"), strict=True):
            check_bright_where_labelled(raw, mask)


def check_bright_where_labelled(raw: bytes, mask: bytes) -> None:
    """The mask lies on the grid that the reference brings the image to, not on the file's own."""
    import io

    from PIL import Image

    from edgeft.medical import order

    drawn = np.asarray(Image.open(io.BytesIO(mask)))
    values, affine, inverted = reference.unpack(raw)
    spec = order.MedicalSpec(window=(0, 300), orientation="plane")
    shown = order.prepare(values, affine, inverted, spec)[0][0]
    assert shown.shape == drawn.shape == (SIDE, SIDE - 4)
    if drawn.any():
        assert shown[drawn == 1].min() > shown[drawn == 0].max()


def test_masks_follow_the_declared_spacing(tmp_path: Path) -> None:
    root = nifti_study(tmp_path / "data")
    facts = build(
        tmp_path / "out", source="nifti", path=str(root), labels=("rest", "box"), group="patient",
        options={"slices": "labelled"}, preprocess={"window": (0, 300), "spacing": (2, 2)},
    )  # fmt: skip
    table = read_split(tmp_path / "out/gate.parquet")
    import io

    from PIL import Image

    sizes = {Image.open(io.BytesIO(raw)).size for _, raw in image_bytes(table, "mask_at", "mask_size")}
    assert sizes == {(10, 12)} and facts["splits"]["gate"]["n"] == table.num_rows


def test_nifti_names_no_patients(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not say which rows are of one patient") as caught:
        default_group(Data(source="nifti", path=str(tmp_path)))
    assert "ungrouped: true" in caught.value.hint
    assert default_group(Data(source="nifti", path="x", options={"ungrouped": True})) is None
    assert default_group(Data(source="nifti", path="x", group="who")) == "who"


def test_a_mask_of_another_grid_is_refused(tmp_path: Path) -> None:
    root = nifti_study(tmp_path / "data")
    write_nifti(root / "masks/v03.nii.gz", np.zeros((SIDE - 4, SIDE, 4), np.uint8), spacing=(1.0, 1.0, 3.0))
    with pytest.raises(StepError) as caught:
        build(
            tmp_path / "out", source="nifti", path=str(root), labels=("rest", "box"), group="patient",
            options={"slices": "all"},
        )  # fmt: skip
    assert "v03" in caught.value.where and "grid" in caught.value.what


EXPECTED: list[tuple[dict[str, Any], str]] = [
    ({"shape": (SIDE, SIDE)}, r"data.expect.shape says: case-\w+: 24 x 20 pixels \(80 such images of 80\)"),
    ({"range": (0, 400)}, r"data.expect.range says: case-\w+: values from .* such images of 80\)"),
    ({"spacing": (0.1, 0.5)}, r"data.expect.spacing says: case-\w+: 0.8 x 0.8 mm"),
    ({"labels": ("ill", "well", "odd")}, "data.expect.labels says: 'odd', no row has it"),
    ({"labels": ("ill",)}, "data.expect.labels says: 'well', 40 rows have it"),
    ({"prevalence": {"ill": (0.01, 0.2)}}, r"data.expect.prevalence says: 40 of 80 rows \(50.0%\) are 'ill'"),
]


@pytest.mark.parametrize(("expect", "what"), EXPECTED)
def test_what_is_expected_is_held_against_every_row(
    study: Path, tmp_path: Path, expect: dict[str, Any], what: str
) -> None:
    with pytest.raises(StepError, match=what) as caught:
        build(tmp_path / "out", source="dicom", path=str(study), expect=expect)
    assert caught.value.hint


def test_what_is_as_expected_passes(study: Path, tmp_path: Path) -> None:
    expect = {
        "shape": (SIDE, None), "range": (0, 1000), "spacing": (0.5, 1), "labels": ("ill", "well"),
        "prevalence": {"ill": (0.4, 0.6)},
    }  # fmt: skip
    facts = build(tmp_path / "out", source="dicom", path=str(study), expect=expect)
    assert json.loads((tmp_path / "out/dataset.json").read_text())["labels"] == facts["labels"]
