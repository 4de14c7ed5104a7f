"""Values against pydicom's own modality LUT as an independent reader, on its test files and on made-up ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from edgeft.errors import RecipeError, StepError
from edgeft.medical.read import Reader, read_volume
from tests.medical.material import AXIAL, TEST_FILES, image, save

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
GREY = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
    *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm", "MR_small_expb.dcm"),
    *("693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "image_dfl.dcm", "examples_overlay.dcm"),
    *("JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "rtdose.dcm", "rtdose_rle.dcm", "ExplVR_BigEnd.dcm"),
    *("dicomdirtests/77654033/CR1/6154", "dicomdirtests/77654033/CT2/17106", "dicomdirtests/98892003/MR700/4467"),
)  # fmt: skip
COLOUR = ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", "SC_ybr_full_422_uncompressed.dcm", "examples_palette.dcm")


def same(ours: Any, theirs: Any) -> None:
    """Equal to the last bit, or to float32's rounding where the values are no whole numbers."""
    theirs = np.asarray(theirs, np.float64)
    assert ours.shape[-2:] == theirs.shape[-2:]
    if ours.dtype == np.int16:
        np.testing.assert_array_equal(ours.astype(np.float64).reshape(theirs.shape), theirs)
    else:
        np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs.astype(np.float32))


@pytest.mark.parametrize("name", GREY)
def test_values_are_those_of_pydicom(grey_reader: Reader, name: str) -> None:
    theirs = pydicom.dcmread(TEST_FILES / name)
    pixels = apply_modality_lut(theirs.pixel_array, theirs)
    if theirs.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        pixels = np.rint(pixels @ np.array((0.299, 0.587, 0.114)))
    same(grey_reader.read(TEST_FILES / name).values, pixels)


@pytest.mark.parametrize("name", COLOUR)
def test_colour_becomes_grey_only_where_that_is_declared(reader: Reader, grey_reader: Reader, name: str) -> None:
    with pytest.raises(StepError, match="is a colour image") as caught:
        reader.read(TEST_FILES / name)
    assert "colour: grey" in caught.value.hint
    theirs = pydicom.dcmread(TEST_FILES / name)
    pixels = theirs.pixel_array
    if theirs.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, theirs)
    weighed = np.rint(pixels.astype(np.float64) @ np.array((0.299, 0.587, 0.114)))
    values = grey_reader.read(TEST_FILES / name).values[0]
    np.testing.assert_array_equal(values, weighed)
    assert values.std() > 1


def test_ct_is_in_hounsfield_units_and_keeps_int16(reader: Reader) -> None:
    volume = reader.read(TEST_FILES / "CT_small.dcm")
    assert (volume.unit, volume.modality, volume.values.dtype) == ("HU", "CT", np.int16)
    assert volume.spacing == (5.0, 0.661468, 0.661468)
    assert volume.values.min() < -800, "air"


@pytest.mark.parametrize("slope", [2.0, 0.1])
def test_slope_and_intercept(tmp_path: Path, reader: Reader, slope: float) -> None:
    pixels = np.arange(24, dtype=np.int16).reshape(4, 6)
    path = save(image(pixels, RescaleSlope=slope, RescaleIntercept=-1024), tmp_path / "a.dcm")
    volume = reader.read(path)
    np.testing.assert_array_equal(volume.values[0], (pixels * slope - 1024).astype(volume.values.dtype))
    assert volume.values.dtype == (np.int16 if slope == 2 else np.float32)


def test_whole_numbers_beyond_int16_become_float32_in_every_frame(tmp_path: Path, reader: Reader) -> None:
    pixels = np.zeros((3, 4, 5), np.uint16)
    pixels[0], pixels[2] = 7, 65535
    volume = reader.read(save(image(pixels, ImagePositionPatient=None), tmp_path / "a.dcm"))
    assert volume.values.dtype == np.float32
    np.testing.assert_array_equal(volume.values, pixels)


@pytest.mark.parametrize(("kind", "first"), [(np.uint8, 10), (np.int16, -5)])
def test_a_modality_lut_takes_the_place_of_slope_and_intercept(
    tmp_path: Path, reader: Reader, kind: type, first: int
) -> None:
    pixels = (np.arange(24) - (8 if kind is np.int16 else 0)).astype(kind).reshape(4, 6)
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [8, first, 16], "US"
    table["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    table.LUTData = [0, 5, 10, 100, 1000, 2000, 2001, 40000]
    table["LUTData"].VR = "US"
    data = image(pixels)
    data.ModalityLUTSequence = Sequence([table])
    path = save(data, tmp_path / "a.dcm")
    values = reader.read(path).values
    theirs = pydicom.dcmread(path)
    same(values, apply_modality_lut(theirs.pixel_array, theirs))
    assert values.max() == 40000


def test_bits_above_those_stored_are_masked(tmp_path: Path, reader: Reader) -> None:
    pixels = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100
    dirty = pixels | np.uint16(0xF000)
    path = save(image(dirty, BitsStored=12, HighBit=11), tmp_path / "a.dcm")
    np.testing.assert_array_equal(reader.read(path).values[0], pixels)


def test_the_sign_bit_is_that_of_the_bits_stored(tmp_path: Path, reader: Reader) -> None:
    values = np.array([[-2048, -1, 0, 2047]], np.int16)
    stored = values & np.int16(0x0FFF)
    path = save(image(stored, BitsStored=12, HighBit=11), tmp_path / "a.dcm")
    np.testing.assert_array_equal(reader.read(path).values[0], values)


def test_monochrome1_is_flagged_and_left_as_it_is(tmp_path: Path, reader: Reader) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    volume = reader.read(save(image(pixels, PhotometricInterpretation="MONOCHROME1"), tmp_path / "a.dcm"))
    assert volume.inverted
    np.testing.assert_array_equal(volume.values[0], pixels)


def test_float_pixels(tmp_path: Path, reader: Reader) -> None:
    values = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
    data = image(np.zeros((4, 6), np.uint16), PixelData=None, BitsAllocated=32, BitsStored=None, HighBit=None)
    data.FloatPixelData = values.tobytes()
    np.testing.assert_array_equal(reader.read(save(data, tmp_path / "a.dcm")).values[0], values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_float_pixels_that_are_not_finite_are_refused(tmp_path: Path, reader: Reader, bad: float) -> None:
    values = np.zeros((4, 6), np.float32)
    values[1, 1] = bad
    data = image(np.zeros((4, 6), np.uint16), PixelData=None, BitsAllocated=32, BitsStored=None, HighBit=None)
    data.FloatPixelData = values.tobytes()
    with pytest.raises(StepError, match="1 pixels that are NaN or infinite"):
        reader.read(save(data, tmp_path / "a.dcm"))


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_what_was_compressed_here_is_read_back(tmp_path: Path, reader: Reader, syntax: Any) -> None:
    pixels = np.random.default_rng(0).integers(-1000, 1000, (40, 30)).astype(np.int16)
    data = image(pixels)
    if syntax is RLELossless:
        data.compress(RLELossless)
    else:
        data.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(reader.read(save(data, tmp_path / "a.dcm")).values[0], pixels)


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("SC_rgb_jpeg_gdcm.dcm", "JPEG lossless .1.2.840.10008.1.2.4.70., and no decoder", "pip install pylibjpeg-libjpeg"),
        ("JPGExtended.dcm", "JPEG extended .1.2.840.10008.1.2.4.51. that cannot be decoded", "pylibjpeg-libjpeg"),
        ("liver_1frame.dcm", "is a DICOM SEG", "mask"),
        ("test-SR.dcm", "is SR: it is a report", ""),
        ("rtplan.dcm", "is RTPLAN: it is a treatment plan", ""),
        ("no_meta.dcm", "is no DICOM file", "PS3.10"),
        ("meta_missing_tsyntax.dcm", "does not state its transfer syntax", ""),
        ("MR_truncated.dcm", "8,130 bytes of pixels; 8,192 are needed", ""),
        ("badVR.dcm", "NumberOfFrames that is no number", ""),
        ("rtplan_truncated.dcm", "cut short", ""),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "compressed pixels of 1,024 x 3,722,445,056", ""),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_by_name(grey_reader: Reader, name: str, said: str, hint: str) -> None:
    with pytest.raises(StepError, match=said) as caught:
        grey_reader.read(TEST_FILES / name)
    assert name in caught.value.where and hint in caught.value.hint


def test_a_segment_of_contours_is_refused_with_the_way_out(tmp_path: Path, reader: Reader) -> None:
    data = image(np.zeros((2, 2), np.uint8), Modality="RTSTRUCT", PixelData=None)
    with pytest.raises(StepError, match="is RTSTRUCT: it holds contours") as caught:
        reader.read(save(data, tmp_path / "a.dcm"))
    assert "DICOM SEG or NIfTI" in caught.value.what


def test_enhanced_frames_have_their_own_places_and_slopes(tmp_path: Path, reader: Reader) -> None:
    pixels = np.stack([np.full((4, 6), number, np.int16) for number in (1, 2, 3)])
    data = image(pixels, ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = AXIAL, [0.5, 0.25]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = []
    for place, slope in ((4.0, 10), (0.0, 1), (2.0, 100)):
        position, moved, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [5.0, 6.0, place]
        moved.RescaleSlope, moved.RescaleIntercept, moved.RescaleType = slope, -1, "HU"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [moved]
        data.PerFrameFunctionalGroupsSequence.append(group)
    volume = reader.read(save(data, tmp_path / "a.dcm"))
    assert [int(plane[0, 0]) for plane in volume.values] == [2 * 1 - 1, 3 * 100 - 1, 1 * 10 - 1]
    assert volume.spacing == (2.0, 0.5, 0.25)
    np.testing.assert_allclose(volume.affine[:3, 3], [5, 6, 0])
    assert any("slope or intercept" in warning for warning in volume.warnings)


def test_a_dose_grid_is_placed_by_its_frame_offsets(reader: Reader) -> None:
    volume = reader.read(TEST_FILES / "rtdose.dcm")
    theirs = pydicom.dcmread(TEST_FILES / "rtdose.dcm")
    offsets = theirs.GridFrameOffsetVector
    assert volume.spacing[0] == pytest.approx(abs(offsets[1] - offsets[0]))
    np.testing.assert_allclose(np.abs(volume.affine[:3, 3]), np.abs(theirs.ImagePositionPatient), atol=80)


def test_a_film_loop_keeps_its_order_and_says_that_it_has_no_places(grey_reader: Reader) -> None:
    volume = grey_reader.read(TEST_FILES / "examples_ybr_color.dcm")
    assert volume.values.shape == (30, 240, 320)
    assert any("no positions" in warning for warning in volume.warnings)


def test_a_radiograph_is_oriented_by_patient_orientation(tmp_path: Path, reader: Reader) -> None:
    data = image(
        np.zeros((4, 6), np.uint8), Modality="CR", PatientOrientation=["L", "F"], ImagerPixelSpacing=[0.2, 0.1],
        PixelSpacing=None, ImagePositionPatient=None, ImageOrientationPatient=None,
    )  # fmt: skip
    volume = reader.read(save(data, tmp_path / "a.dcm"))
    np.testing.assert_allclose(volume.affine[:3, 2], [0.1, 0, 0])
    np.testing.assert_allclose(volume.affine[:3, 1], [0, 0, -0.2])


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"PixelSpacing": [0.5, -0.5]}, "PixelSpacing of 0.5 and -0.5 mm: it must be above 0"),
        ({"PixelSpacing": [0.0, 0.5]}, "must be above 0"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not two perpendicular directions"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "not two perpendicular directions"),
        ({"PixelSpacing": [5000.0, 0.5]}, "every side must lie between"),
        ({"RescaleSlope": 0}, "RescaleSlope of 0"),
        ({"HighBit": 15, "BitsStored": 12}, "HighBit"),
        ({"BitsStored": 17}, "contradicts itself"),
        ({"SamplesPerPixel": 3}, "MONOCHROME2 with 3 samples"),
        ({"SamplesPerPixel": 2}, "2 samples per pixel"),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation"),
        ({"Rows": 0}, "every size must be at least 1"),
        ({"NumberOfFrames": 2}, "96 are needed"),
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused(
    tmp_path: Path, reader: Reader, attributes: dict[str, Any], said: str
) -> None:
    pixels = np.zeros((4, 6), np.int16)
    with pytest.raises(StepError, match=said):
        reader.read(save(image(pixels, **attributes), tmp_path / "a.dcm"))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        read_volume(tmp_path / "nothing.dcm")
