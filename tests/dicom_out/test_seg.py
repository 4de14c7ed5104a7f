"""Segmentations: the mask that was written is the mask that others read, voxel by voxel where it lies in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

from pydicom.data import get_testdata_file  # noqa: E402

from edgeft.errors import StepError  # noqa: E402
from edgeft.medical.codes import Code, LabelCode, code_labels  # noqa: E402
from edgeft.medical.dicom_out.origin import Origin  # noqa: E402
from edgeft.medical.dicom_out.write import Source, write_segmentation  # noqa: E402
from edgeft.medical.read import read_mask, read_volume  # noqa: E402
from tests.dicom_out.conftest import Validator  # noqa: E402
from tests.dicom_out.material import (  # noqa: E402
    NAME,
    feet_first,
    oblique,
    set_raw,
    shapes,
    write_ct,
    write_dx,
    write_enhanced_ct,
)

pytestmark = pytest.mark.ml  # seconds: each object is written by a process of its own

ORIGIN = Origin("digits", "ab" * 32, "My Clinic", ("edgeft 0.1.0",), {"runtime": "onnxruntime"})
CODES = code_labels(["square", "disc"], {"square": LabelCode(Code("10200004", "SCT", "Liver"))})
LABELS = ["nothing", "square", "disc"]


def source_of(path: Path) -> tuple[Any, Source]:
    """(volume, what an object of it is derived from), as `edgeft run` makes it."""
    volume = read_volume(path)
    return volume, Source(tuple(dict.fromkeys(volume.files)), volume.affine)


def painted(written: Path) -> dict[tuple[float, ...], set[int]]:
    """Position in mm of every painted voxel -> its segments, by pydicom and arithmetic alone: no reader's grid."""
    found: dict[tuple[float, ...], set[int]] = {}
    item = pydicom.dcmread(written)
    frames = np.atleast_3d(item.pixel_array).reshape(-1, item.Rows, item.Columns)
    shared = item.SharedFunctionalGroupsSequence[0]
    down, across = (float(mm) for mm in shared.PixelMeasuresSequence[0].PixelSpacing)
    axes = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    for frame, group in zip(frames, item.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
        segment = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for row, column in np.argwhere(frame):
            place = corner + axes[:3] * across * column + axes[3:] * down * row
            found.setdefault(tuple(np.round(place, 2)), set()).add(segment)
    return found


@pytest.mark.parametrize("axes", [oblique, feet_first])
def test_every_voxel_lies_where_it_was_found(tmp_path: Path, errors_of: Validator, axes: Any) -> None:
    values, mask = shapes(5, 24, 30)
    write_ct(tmp_path / "series", values, axes())
    volume, source = source_of(tmp_path / "series")
    assert np.array_equal(volume.values, values), "the reader brings the slices in order"
    written = write_segmentation(mask, source, CODES, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == []
    places = np.argwhere(mask)
    wanted = np.c_[places, np.ones(len(places))] @ volume.affine.T
    numbers = {tuple(np.round(mm[:3], 2)): {int(mask[tuple(at)])} for at, mm in zip(places, wanted, strict=True)}
    assert painted(written.path) == numbers
    segmentation = hd.seg.segread(written.path)
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in source.files]
    assert np.array_equal(segmentation.get_pixels_by_source_instance(uids, combine_segments=True), mask)
    assert np.array_equal(read_mask(written.path, volume, LABELS), mask)
    turned = np.flip(mask, axis=2)
    assert not np.array_equal(turned, mask), "the mask tells a flip apart"


def test_frames_of_one_file_in_another_order_than_their_positions(tmp_path: Path, errors_of: Validator) -> None:
    values, mask = shapes(5, 24, 30)
    order = [3, 0, 4, 1, 2]
    volume, source = source_of(write_enhanced_ct(tmp_path / "many.dcm", values, oblique(), order))
    assert np.array_equal(volume.values, values)
    written = write_segmentation(mask, source, CODES, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == []
    uid = pydicom.dcmread(source.files[0], stop_before_pixels=True).SOPInstanceUID
    read = hd.seg.segread(written.path).get_pixels_by_source_frame(uid, [1, 2, 3, 4, 5], combine_segments=True)
    assert np.array_equal(read, mask[order])
    assert np.array_equal(read_mask(written.path, volume, LABELS), mask)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_images_that_come_with_pydicom(tmp_path: Path, errors_of: Validator, name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    volume, source = source_of(path)
    mask = np.zeros(volume.values.shape, np.uint8)
    mask[0, 3:20, 4:9], mask[0, 23:25, 8:33] = 1, 2
    written = write_segmentation(mask, source, CODES, ORIGIN, tmp_path)
    assert errors_of(written.path) == []
    given, made = pydicom.dcmread(path), pydicom.dcmread(written.path)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID"):
        assert made.get(keyword) == given.get(keyword), keyword
    assert (
        made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == given.SOPInstanceUID
    )
    read = hd.seg.segread(written.path).get_pixels_by_source_instance([given.SOPInstanceUID], combine_segments=True)
    assert np.array_equal(read, mask)
    assert np.array_equal(read_mask(written.path, volume, LABELS), mask)


def test_an_image_without_a_place_in_space(tmp_path: Path, errors_of: Validator) -> None:
    values, mask = shapes(1, 24, 30)
    volume, source = source_of(write_dx(tmp_path / "chest.dcm", values[0].astype(np.uint16), inverted=True))
    written = write_segmentation(mask, source, CODES, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == []
    uid = pydicom.dcmread(source.files[0], stop_before_pixels=True).SOPInstanceUID
    read = hd.seg.segread(written.path).get_pixels_by_source_instance(
        [uid], combine_segments=True, ignore_spatial_locations=True
    )
    assert np.array_equal(read, mask)
    assert np.array_equal(read_mask(written.path, volume, LABELS), mask)


def test_who_made_it_is_in_it(tmp_path: Path) -> None:
    values, mask = shapes(2, 24, 30)
    write_ct(tmp_path / "series", values, oblique())
    _, source = source_of(tmp_path / "series")
    origin = Origin("digits", "ab" * 32, "My Clinic", ("edgeft 0.1.0",), {"runtime": "onnxruntime"}, released=False)
    made = pydicom.dcmread(write_segmentation(mask, source, CODES, origin, tmp_path / "out").path)
    assert (made.Manufacturer, made.ManufacturerModelName, made.DeviceSerialNumber) == (
        "My Clinic",
        "digits",
        "ab" * 32,
    )
    assert made.SoftwareVersions == "edgeft 0.1.0" and made.ContentQualification == "RESEARCH"
    assert made.SeriesDescription == "NOT RELEASED, gates failed: digits segmentation"
    first, second = made.SegmentSequence
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("digits", "ab" * 32)
    assert algorithm.AlgorithmParameters == "runtime=onnxruntime" and first.SegmentAlgorithmType == "AUTOMATIC"
    assert (first.SegmentLabel, first.SegmentedPropertyTypeCodeSequence[0].CodeValue) == ("square", "10200004")
    assert second.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99EDGEFT"
    assert made.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99EDGEFT"
    assert made.SeriesInstanceUID.startswith("2.25.") and made.SeriesNumber == 1003
    assert made.PatientName == NAME and made.SpecificCharacterSet == "ISO_IR 100"


def test_a_label_that_the_sources_characters_lack_turns_all_text_to_utf8(tmp_path: Path, errors_of: Validator) -> None:
    values, mask = shapes(2, 24, 30)
    write_ct(tmp_path / "series", values, oblique())
    _, source = source_of(tmp_path / "series")
    codes = code_labels(["肝臓", "Wątroba"], {})
    written = write_segmentation(mask, source, codes, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == []
    made = pydicom.dcmread(written.path)
    assert made.SpecificCharacterSet == "ISO_IR 192" and made.PatientName == NAME
    assert [item.SegmentLabel for item in made.SegmentSequence] == ["肝臓", "Wątroba"]


def test_an_empty_mask_is_an_answer(tmp_path: Path, errors_of: Validator) -> None:
    values, mask = shapes(3, 24, 30)
    write_ct(tmp_path / "series", values, oblique())
    _, source = source_of(tmp_path / "series")
    written = write_segmentation(np.zeros_like(mask), source, CODES, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == []
    made = pydicom.dcmread(written.path)
    assert len(made.SegmentSequence) == 2 and not made.pixel_array.any()


def test_the_validator_sees_what_is_missing(tmp_path: Path, errors_of: Validator) -> None:
    values, mask = shapes(2, 24, 30)
    write_ct(tmp_path / "series", values, oblique())
    _, source = source_of(tmp_path / "series")
    made = pydicom.dcmread(write_segmentation(mask, source, CODES, ORIGIN, tmp_path / "out").path)
    del made.SegmentSequence[0].SegmentAlgorithmType
    made.save_as(tmp_path / "broken.dcm")
    assert any("SegmentAlgorithmType" in line for line in errors_of(tmp_path / "broken.dcm"))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"PatientBirthDate": "yesterday"}, ""),
        ({"PatientSex": "unknown"}, ""),
        ({"StudyTime": "25:61"}, ""),
        ({"SliceThickness": ""}, 3.0),
    ],
)
def test_a_malformed_header_does_not_withhold_an_object(
    tmp_path: Path, errors_of: Validator, changes: dict[str, Any], kept: Any
) -> None:
    values, mask = shapes(3, 24, 30)
    write_ct(tmp_path / "series", values, oblique())
    for file in (tmp_path / "series").iterdir():
        set_raw(file, changes)
    _, source = source_of(tmp_path / "series")
    written = write_segmentation(mask, source, CODES, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == []
    made, (keyword,) = pydicom.dcmread(written.path), changes
    found = made.get(keyword)
    if keyword == "SliceThickness":
        found = float(made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness)
    assert found == kept or (not found and not kept)


def test_what_dicom_cannot_say_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    values, mask = shapes(3, 24, 30)
    write_ct(tmp_path / "series", values, oblique())
    _, source = source_of(tmp_path / "series")
    out = tmp_path / "out"

    def refused(words: str, mask: Any = mask, source: Source = source, codes: Any = CODES) -> None:
        with pytest.raises(StepError, match=words) as caught:
            write_segmentation(mask, source, codes, ORIGIN, out)
        assert NAME not in str(caught.value) and "0815" not in str(caught.value)
        assert not out.exists() and sorted(path.name for path in tmp_path.iterdir()) == ["series"]

    refused("own grid", mask=mask[:, :-1])
    refused("2 slices were answered, the files hold 3 frames", mask=mask[:2])
    refused("no label stands for", codes=code_labels(["square"], {}))
    moved = np.array(source.affine)
    moved[:3, 3] += 1.0
    refused("do not lie where", source=Source(source.files, moved))
    mirrored = np.array(source.affine)
    mirrored[:3, 0] *= -1
    refused("do not lie where", source=Source(source.files, mirrored))
    (tmp_path / "series/bad.dcm").write_bytes(source.files[1].read_bytes()[:400])
    refused(
        "bad.dcm: .*cut short",
        source=Source((source.files[0], tmp_path / "series/bad.dcm", source.files[2]), source.affine),
    )


def test_no_frame_of_reference_is_told_by_name(tmp_path: Path) -> None:
    values, mask = shapes(2, 24, 30)
    files = write_ct(tmp_path / "series", values, oblique())
    for file in files:
        item = pydicom.dcmread(file)
        del item.FrameOfReferenceUID
        item.save_as(file)
    _, source = source_of(tmp_path / "series")
    with pytest.raises(StepError, match="FrameOfReferenceUID"):
        write_segmentation(mask, source, CODES, ORIGIN, tmp_path / "out")


def test_a_segmentation_refers_to_one_multi_frame_file(tmp_path: Path) -> None:
    values, mask = shapes(4, 24, 30)
    files = []
    for place, order in enumerate(([0, 1], [2, 3])):
        files.append(write_enhanced_ct(tmp_path / f"part{place}.dcm", values, oblique(), order))
    uid = pydicom.dcmread(files[0], stop_before_pixels=True)
    other = pydicom.dcmread(files[1])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(other, keyword, uid.get(keyword))
    other.save_as(files[1])
    volume, _ = source_of(write_enhanced_ct(tmp_path / "whole.dcm", values, oblique(), [0, 1, 2, 3]))
    with pytest.raises(StepError, match="several multi-frame files"):
        write_segmentation(mask, Source(files, volume.affine), CODES, ORIGIN, tmp_path / "out")
