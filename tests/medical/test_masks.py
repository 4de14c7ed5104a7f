"""Masks on their image's own grid: DICOM SEG written by highdicom, NIfTI, PNG, and what does not fit refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from PIL import Image
from pydicom.sr.codedict import codes

from edgeft.errors import RecipeError, StepError
from edgeft.medical.read import Reader, Reading
from edgeft.medical.volume import Volume
from tests.medical.material import TEST_FILES, image, save, write_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CT = TEST_FILES / "dicomdirtests" / "98892001" / "CT5N"
LABELS = ("rest", "Liver", "Tumour")


def sources() -> list[pydicom.Dataset]:
    """The five CT slices in the file system's order, which is not that of their positions."""
    return [pydicom.dcmread(path) for path in sorted(CT.iterdir())]


def segmentation(
    masks: Any, images: Sequence[pydicom.Dataset], labels: Sequence[str] = LABELS[1:], kind: str = "BINARY", **more: Any
) -> Any:
    """A SEG of (slices, rows, columns[, segments]) in the order of `images`."""
    described = [
        SegmentDescription(
            number, label, codes.SCT.Tissue, codes.SCT.Tissue, hd.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, label in enumerate(labels, 1)
    ]  # fmt: skip
    return Segmentation(
        list(images), masks, kind, described, hd.UID(), 1, hd.UID(), 1, "made-up", "made-up", "1", "1", **more
    )


def some_mask() -> Any:
    """(5, 16, 16), nothing symmetric about it: 1 in one corner, 2 in another, sizes growing with the slice."""
    mask = np.zeros((5, 16, 16), np.uint8)
    for place in range(5):
        mask[place, 1 : 3 + place, 2:5] = 1
        mask[place, 10:12, 6 : 8 + place] = 2
    return mask


def as_read(mask: Any, images: Sequence[pydicom.Dataset]) -> Any:
    """`mask` in the order of positions along the normal."""
    return mask[np.argsort([float(item.ImagePositionPatient[2]) for item in images])]


@pytest.fixture(scope="module")
def volume(reader: Reader) -> Volume:
    return reader.read(CT)


def test_a_binary_segmentation_comes_back_on_the_images_slices(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    path = save(segmentation(some_mask(), sources()), tmp_path / "seg.dcm")
    found = reader.read_mask(path, volume, LABELS)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, as_read(some_mask(), sources()))


def test_labels_may_be_in_another_order_or_be_numbers(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    path = save(segmentation(some_mask(), sources()), tmp_path / "seg.dcm")
    swapped = reader.read_mask(path, volume, ("rest", "tumour", "liver"))
    np.testing.assert_array_equal(swapped, np.array((0, 2, 1))[as_read(some_mask(), sources())])
    np.testing.assert_array_equal(reader.read_mask(path, volume, ("0", "1", "2")), as_read(some_mask(), sources()))


def test_slices_without_a_segment_are_background(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    mask = some_mask()
    mask[1:4] = 0
    path = save(segmentation(mask, sources(), omit_empty_frames=True), tmp_path / "seg.dcm")
    assert pydicom.dcmread(path).NumberOfFrames == 4
    np.testing.assert_array_equal(reader.read_mask(path, volume, LABELS), as_read(mask, sources()))


def test_a_segmentation_of_some_slices(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    path = save(segmentation(some_mask()[2:4], sources()[2:4]), tmp_path / "seg.dcm")
    wanted = some_mask()
    wanted[[0, 1, 4]] = 0
    np.testing.assert_array_equal(reader.read_mask(path, volume, LABELS), as_read(wanted, sources()))


@pytest.mark.parametrize(("threshold", "least"), [(0.5, 0.5), (0.2, 0.2), (1.0, 1.0)])
def test_a_fractional_segmentation_is_cut_at_the_threshold(
    tmp_path: Path, reader: Reader, volume: Volume, threshold: float, least: float
) -> None:
    share = np.linspace(0, 1, 5 * 256, dtype=np.float32).reshape(5, 16, 16)
    made = segmentation(share, sources(), ["Liver"], "FRACTIONAL", max_fractional_value=200)
    found = reader.read_mask(save(made, tmp_path / "seg.dcm"), volume, ("rest", "Liver"), threshold)
    stored = np.around(share * 200)
    np.testing.assert_array_equal(found, as_read(stored >= least * 200, sources()))


def test_a_label_map(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    path = save(segmentation(some_mask(), sources(), kind="LABELMAP"), tmp_path / "seg.dcm")
    np.testing.assert_array_equal(reader.read_mask(path, volume, LABELS), as_read(some_mask(), sources()))


def test_segments_that_overlap_are_refused(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    both = np.zeros((5, 16, 16, 2), np.uint8)
    both[2, 4:8, 4:8, 0] = both[2, 6:9, 6:9, 1] = 1
    path = save(segmentation(both, sources()), tmp_path / "seg.dcm")
    with pytest.raises(StepError, match=r"has segment 2 over another in slice \d \(4 pixels\)"):
        reader.read_mask(path, volume, LABELS)


def test_a_segment_that_no_label_names(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    path = save(segmentation(some_mask(), sources(), ["Liver", "Spleen"]), tmp_path / "seg.dcm")
    with pytest.raises(StepError, match="segment 2, whose label is none of rest, Liver, Tumour"):
        reader.read_mask(path, volume, LABELS)


def test_a_segmentation_of_another_image(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    others = sources()
    for number, item in enumerate(others):
        item.SOPInstanceUID = f"1.2.3.{number}"
    path = save(segmentation(some_mask(), others), tmp_path / "seg.dcm")
    with pytest.raises(StepError, match="refers to another image"):
        reader.read_mask(path, volume, LABELS)


def moved(made: Any, change: Any) -> Any:
    """The SEG with the position of every frame changed, as an editor that loses a shift would."""
    groups = made.PerFrameFunctionalGroupsSequence
    # highdicom gives frames of one slice the same item.
    for place in {id(group.PlanePositionSequence[0]): group.PlanePositionSequence[0] for group in groups}.values():
        place.ImagePositionPatient = change([float(value) for value in place.ImagePositionPatient])
    return made


@pytest.mark.parametrize("shift", [(0.3, 0, 0), (0, 5, 0), (0, 0, 40)])
def test_a_segmentation_beside_its_image(tmp_path: Path, reader: Reader, volume: Volume, shift: Any) -> None:
    made = moved(segmentation(some_mask(), sources()), lambda place: [a + b for a, b in zip(place, shift, strict=True)])
    with pytest.raises(StepError, match="lies on none of the image's slices") as caught:
        reader.read_mask(save(made, tmp_path / "seg.dcm"), volume, LABELS)
    assert "resample" in caught.value.hint


def test_references_and_positions_must_agree(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    made = moved(segmentation(some_mask(), sources()), lambda place: [place[0], place[1], 7.525 - place[2]])
    with pytest.raises(StepError, match=r"refers to slice \d of the image and lies on \d"):
        reader.read_mask(save(made, tmp_path / "seg.dcm"), volume, LABELS)


def test_slices_that_are_uneven_have_their_masks_too(tmp_path: Path) -> None:
    """The third slice is missing, which was declared: the others keep their own places."""
    kept = [item for item in sources() if float(item.ImagePositionPatient[2]) != 3.7625]
    for number, item in enumerate(kept):
        save(item, tmp_path / "ct" / f"{number}.dcm")
    mask = some_mask()[:4]
    path = save(segmentation(mask, kept), tmp_path / "seg.dcm")
    with Reader(reading=Reading(uneven="accept"), key=bytes(32)) as reader:
        found = reader.read_mask(path, reader.read(tmp_path / "ct"), LABELS)
    np.testing.assert_array_equal(found, as_read(mask, kept))


def test_positions_alone_are_enough(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    made = segmentation(some_mask(), sources())
    for group in made.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    found = reader.read_mask(save(made, tmp_path / "seg.dcm"), volume, LABELS)
    np.testing.assert_array_equal(found, as_read(some_mask(), sources()))


def test_contours_and_images_are_no_masks(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    contours = save(image(np.zeros((2, 2), np.uint8), Modality="RTSTRUCT", PixelData=None), tmp_path / "a.dcm")
    with pytest.raises(StepError, match="RTSTRUCT: it holds contours"):
        reader.read_mask(contours, volume, LABELS)
    with pytest.raises(StepError, match="is a DICOM image, not a segmentation"):
        reader.read_mask(TEST_FILES / "CT_small.dcm", volume, LABELS)


def nifti(path: Path, mask: Any, volume: Volume, turn: str = "") -> Path:
    """`mask` as a NIfTI file on the volume's grid, its axes reordered to `turn` where that is given."""
    affine = np.diag((-1.0, -1, 1, 1)) @ volume.affine[:, [2, 1, 0, 3]]
    made = nibabel.Nifti1Image(mask.T, affine)
    if turn:
        made = made.as_reoriented(nibabel.orientations.ornt_transform(
            nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(turn))))  # fmt: skip
    nibabel.save(made, path)
    return path


@pytest.mark.parametrize("turn", ["", "RAS", "LPI", "SAL"])
def test_a_nifti_mask_of_any_axes_lands_on_the_image(tmp_path: Path, reader: Reader, volume: Volume, turn: str) -> None:
    """As dcm2niix and others write them: the voxels are the same, their order is not."""
    wanted = as_read(some_mask(), sources())
    found = reader.read_mask(nifti(tmp_path / "a.nii.gz", wanted, volume, turn), volume, LABELS)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("change", ["shift", "size", "spacing", "turn"])
def test_a_nifti_mask_on_another_grid(tmp_path: Path, reader: Reader, volume: Volume, change: str) -> None:
    affine = np.diag((-1.0, -1, 1, 1)) @ volume.affine[:, [2, 1, 0, 3]]
    mask = some_mask().T
    if change == "shift":
        affine[0, 3] += 0.3
    elif change == "size":
        mask = mask[:-1]
    elif change == "spacing":
        affine[:3, 0] *= 1.05
    else:
        angle = np.radians(10)
        affine[:2] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ affine[:2]
    nibabel.save(nibabel.Nifti1Image(mask, affine), tmp_path / "a.nii")
    with pytest.raises(StepError, match="lies on another grid"):
        reader.read_mask(tmp_path / "a.nii", volume, LABELS)


@pytest.mark.parametrize(("value", "said"), [(3, "the value 3"), (0.5, "not whole numbers"), (-1, "not whole numbers")])
def test_values_that_are_no_label(tmp_path: Path, reader: Reader, volume: Volume, value: float, said: str) -> None:
    mask = some_mask().astype(np.float32)
    mask[2, 3, 4] = value
    with pytest.raises(StepError, match=said):
        reader.read_mask(nifti(tmp_path / "a.nii", mask, volume), volume, LABELS)


@pytest.mark.parametrize(("mode", "scale"), [("L", 1), ("L", 255), ("P", 1), ("1", 255)])
def test_a_png_mask(tmp_path: Path, reader: Reader, mode: str, scale: int) -> None:
    single = reader.read(save(image(np.zeros((16, 16), np.int16)), tmp_path / "a.dcm"))
    wanted = (some_mask()[3] == 1).astype(np.uint8)
    picture = Image.fromarray(wanted * np.uint8(scale))
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(reader.read_mask(tmp_path / "a.png", single, ("rest", "it"))[0], wanted)


def test_a_png_that_does_not_fit(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    single = reader.read(save(image(np.zeros((4, 6), np.int16)), tmp_path / "a.dcm"))
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(StepError, match="has 6 x 4 pixels, its image 4 x 6"):
        reader.read_mask(tmp_path / "a.png", single, LABELS)
    with pytest.raises(StepError, match="is one slice, its image has 5"):
        reader.read_mask(tmp_path / "a.png", volume, LABELS)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(StepError, match="is a colour picture"):
        reader.read_mask(tmp_path / "b.png", single, LABELS)
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(StepError, match="is no PNG"):
        reader.read_mask(tmp_path / "c.png", single, LABELS)


def test_masks_need_two_labels_and_a_file(tmp_path: Path, reader: Reader, volume: Volume) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        reader.read_mask(tmp_path / "a.png", volume, LABELS)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(RecipeError, match="2 to 255 labels"):
        reader.read_mask(tmp_path / "a.png", volume, ("rest",))


def test_an_image_whose_files_changed(tmp_path: Path, reader: Reader) -> None:
    write_series(tmp_path / "ct", [0.0, 1, 2])
    volume = reader.read(tmp_path / "ct")
    volume.files[1].write_bytes(volume.files[0].read_bytes())
    path = save(segmentation(some_mask(), sources()), tmp_path / "seg.dcm")
    with pytest.raises(StepError, match="changed since it was read"):
        reader.read_mask(path, volume, LABELS)
