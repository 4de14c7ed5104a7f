"""Folders: slices in the order of their positions, and what makes no volume refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import StepError
from edgeft.medical.read import Reader, Reading, read_many, read_volume
from tests.medical.material import TEST_FILES, image, save, write_series

KEY = bytes(32)


def order(volume: Any) -> list[int]:
    """Pixels of `write_series` tell the place in its list."""
    return [int(plane[0, 0]) for plane in volume.values]


def test_slices_lie_in_the_order_of_their_positions(tmp_path: Path, reader: Reader) -> None:
    files = write_series(tmp_path, [4.0, -2.0, 1.0, 7.0])
    volume = reader.read(tmp_path)
    assert order(volume) == [1, 2, 0, 3]
    assert volume.files == tuple(files[place] for place in (1, 2, 0, 3))
    assert volume.spacing == (3.0, 0.5, 0.75)
    np.testing.assert_allclose(volume.affine @ [2, 1, 1, 1], [0.75, 0.5, 4.0, 1])


def test_the_normal_may_point_anywhere(tmp_path: Path, reader: Reader) -> None:
    """Coronal slices: columns to the left, rows to the feet, so the normal points to the back."""
    for number, place in enumerate((10.0, -10.0, 0.0)):
        data = image(
            np.full((4, 6), number, np.int16),
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=[1.0, place, 2.0],
        )  # fmt: skip
        save(data, tmp_path / f"{number}.dcm")
    volume = reader.read(tmp_path)
    assert order(volume) == [1, 2, 0]
    np.testing.assert_allclose(volume.affine[:3, 0], [0, 10, 0])
    np.testing.assert_allclose(volume.affine[:3, 3], [1, -10, 2])


def test_a_real_series(reader: Reader) -> None:
    """Five slices of a CT whose instance numbers run downwards."""
    volume = reader.read(TEST_FILES / "dicomdirtests" / "98892001" / "CT5N")
    assert [path.name for path in volume.files] == ["3353", "3023", "2693", "2392", "2062"]
    assert volume.spacing == (2.5, 0.488281, 0.488281)
    assert volume.patient and volume.facts["age_band"] == "40-49"


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("77654033/CT2", "161 slices are missing: 202 mm between slices 1 and 2 of 4, usually 1.25 mm"),
        ("98892003/MR700", "oriented otherwise"),
        ("98892003/MR2", "3 series: "),
        ("98892001/CT2N", "oriented otherwise"),
    ],
)  # fmt: skip
def test_real_folders_that_are_no_volume(reader: Reader, folder: str, said: str) -> None:
    """Four of 182 slices; a radial MR cholangiogram; three localisers; two scouts."""
    with pytest.raises(StepError, match=said):
        reader.read(TEST_FILES / "dicomdirtests" / folder)


def test_a_missing_slice_is_named(tmp_path: Path, reader: Reader) -> None:
    write_series(tmp_path, [0.0, 2, 4, 8, 10])
    with pytest.raises(
        StepError, match=r"1 slice is missing: 4 mm between slices 3 and 4 of 5, usually 2 mm"
    ) as caught:
        reader.read(tmp_path)
    assert "-3.dcm" in caught.value.where and "uneven: accept" in caught.value.hint


def test_uneven_slices_are_refused_or_accepted_with_a_warning(tmp_path: Path, reader: Reader) -> None:
    write_series(tmp_path, [0.0, 2, 4, 5.3, 7.3])
    with pytest.raises(StepError, match=r"unevenly spaced: 1\.3 mm"):
        reader.read(tmp_path)
    volume = read_volume(tmp_path, reading=Reading(uneven="accept"))
    assert order(volume) == [0, 1, 2, 3, 4]
    assert any("unevenly spaced" in warning for warning in volume.warnings)


def test_two_slices_at_one_position(tmp_path: Path, reader: Reader) -> None:
    write_series(tmp_path, [0.0, 2, 2, 4])
    with pytest.raises(StepError, match="same position as another slice") as caught:
        reader.read(tmp_path)
    assert "split them into folders" in caught.value.hint


def test_a_copy_of_a_file_counts_once(tmp_path: Path, reader: Reader) -> None:
    files = write_series(tmp_path, [0.0, 2, 4])
    shutil.copy(files[1], tmp_path / "copy.dcm")
    volume = reader.read(tmp_path)
    assert order(volume) == [0, 1, 2]
    assert "files passed over because they are copies of others: 1" in volume.warnings


def test_two_contents_of_one_instance_are_no_copies(tmp_path: Path, reader: Reader) -> None:
    files = write_series(tmp_path, [0.0, 2, 4])
    (tmp_path / "copy.dcm").write_bytes(files[1].read_bytes()[:-1] + b"\1")
    with pytest.raises(StepError, match="same position as another slice"):
        reader.read(tmp_path)


def test_slopes_of_their_own(tmp_path: Path, reader: Reader) -> None:
    """As PET has them."""
    for number, slope in enumerate((1.0, 0.5)):
        data = image(
            np.full((4, 6), 10, np.int16), RescaleSlope=slope, RescaleIntercept=0, ImagePositionPatient=[0, 0, number * 2.0],
            Modality="PT", Units="BQML",
        )  # fmt: skip
        save(data, tmp_path / f"{number}.dcm")
    volume = reader.read(tmp_path)
    assert [float(plane[0, 0]) for plane in volume.values] == [10, 5]
    assert volume.unit == "BQML"
    assert any("slope or intercept" in warning for warning in volume.warnings)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"Rows": 2}, "has 2 x 6 pixels, others of its series 4 x 6"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "oriented otherwise"),
        ({"PixelSpacing": [0.5, 0.5]}, "another pixel spacing"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "is MONOCHROME1, others of its series MONOCHROME2"),
        ({"PatientID": "made-up-2"}, "another Patient ID"),
        ({"RescaleSlope": 1.0, "RescaleIntercept": 0.0, "RescaleType": "OD"}, "another unit"),
        ({"ImagePositionPatient": None}, "lacks ImagePositionPatient"),
    ],
)  # fmt: skip
def test_a_slice_that_is_of_another_kind(tmp_path: Path, reader: Reader, attributes: dict[str, Any], said: str) -> None:
    write_series(tmp_path, [0.0, 2])
    stranger = image(np.zeros((4, 6), np.int16), **{"ImagePositionPatient": [0, 0, 4.0], **attributes})
    save(stranger, tmp_path / "zz-stranger.dcm")
    with pytest.raises(StepError, match=said) as caught:
        reader.read(tmp_path)
    assert caught.value.where.endswith("zz-stranger.dcm")


def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path, reader: Reader) -> None:
    for number in range(3):
        save(
            image(
                np.zeros((4, 6), np.int16), ImagePositionPatient=[0, number * np.tan(np.radians(15)) * 5, number * 5.0]
            ),
            tmp_path / f"{number}.dcm",
        )
    with pytest.raises(StepError, match=r"15.0 degrees off their normal \(gantry tilt\)") as caught:
        reader.read(tmp_path)
    assert "dcm2niix" in caught.value.hint


def test_several_series_are_listed_and_one_is_chosen(tmp_path: Path, reader: Reader) -> None:
    write_series(tmp_path / "a", [0.0, 2, 4])
    write_series(
        tmp_path / "b", [0.0, 5], SeriesInstanceUID="1.2.3.4", SeriesDescription="thick", SeriesNumber=12, Modality="MR"
    )
    with pytest.raises(StepError, match=r"2 series: number 3 \(CT, 3 x 4 x 6\), number 12 \(MR, 2 x 4 x 6\)") as caught:
        reader.read(tmp_path)
    assert "1.2.3.4" not in caught.value.render() and "thick" not in caught.value.render()
    for name in ("1.2.3.4", "thick", "12"):
        assert read_volume(tmp_path, reading=Reading(series=name)).values.shape == (2, 4, 6)
    with pytest.raises(StepError, match="no series here has this UID"):
        read_volume(tmp_path, reading=Reading(series="thin"))


def test_what_lies_among_images_is_passed_over_and_counted(tmp_path: Path, reader: Reader) -> None:
    write_series(tmp_path, [0.0, 2])
    (tmp_path / "notes.txt").write_text("scanned on Monday")
    (tmp_path / ".DS_Store").write_bytes(bytes(500))
    shutil.copy(TEST_FILES / "dicomdirtests" / "DICOMDIR", tmp_path / "DICOMDIR")
    shutil.copy(TEST_FILES / "test-SR.dcm", tmp_path / "report.dcm")
    volume = reader.read(tmp_path)
    assert order(volume) == [0, 1]
    assert "files passed over because they are no images: 4" in volume.warnings
    (tmp_path / "broken.dcm").write_bytes(b"text in a file that says it is DICOM")
    with pytest.raises(StepError, match="is no DICOM file") as caught:
        reader.read(tmp_path)
    assert caught.value.where.endswith("broken.dcm")


def test_an_empty_folder_and_one_of_no_images(tmp_path: Path, reader: Reader) -> None:
    with pytest.raises(StepError, match="the folder is empty"):
        reader.read(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(StepError, match="holds no DICOM image"):
        reader.read(tmp_path)


def test_many_files_are_read_by_one_process_and_a_bad_one_is_skipped_as_declared(tmp_path: Path) -> None:
    files = write_series(tmp_path, [0.0, 1, 2, 3])
    files[2].write_bytes(b"nothing of the kind")
    said: list[str] = []
    reading = Reading(root=tmp_path)
    with Reader(reading=reading, key=KEY) as reader:
        for file in files[:2]:
            reader.read(file)
        assert reader.child.starts == 1
    found = list(read_many(files, reading=reading, on_unreadable="skip", warn=said.append))
    assert [order(volume) for _, volume in found] == [[0], [1], [3]]
    assert [path for path, _ in found] == [files[0], files[1], files[3]]
    assert said == [f"skipped {files[2].name}: is no DICOM file: it lacks the prefix DICM"]
    with pytest.raises(StepError, match=files[2].name):
        list(read_many(files, reading=reading))
