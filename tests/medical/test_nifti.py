"""NIfTI against nibabel as an independent reader, on its own test files and on made-up ones."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from edgeft.errors import StepError
from edgeft.medical.order import MedicalSpec, prepare
from edgeft.medical.read import Reader

DATA = Path(nibabel.__file__).parent / "tests" / "data"
FLIP = np.diag((-1.0, -1, 1, 1))


def write(path: Path, values: Any, affine: Any = None, **header: Any) -> Path:
    picture = nibabel.Nifti1Image(values, np.diag((2.0, 3, 4, 1)) if affine is None else affine)
    for name, value in header.items():
        picture.header[name] = value
    nibabel.save(picture, path)
    return path


@pytest.mark.parametrize("name", ["anatomical.nii"])
def test_values_and_places_are_those_of_nibabel(reader: Reader, name: str) -> None:
    theirs, ours = nibabel.load(DATA / name), reader.read(DATA / name)
    np.testing.assert_array_equal(ours.values, theirs.get_fdata().astype(np.float32).T)
    np.testing.assert_allclose(ours.affine, (FLIP @ theirs.affine)[:, [2, 1, 0, 3]])
    np.testing.assert_allclose(ours.spacing[::-1], theirs.header.get_zooms()[:3], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_of_number(tmp_path: Path, reader: Reader, suffix: str, kind: type, order: str) -> None:
    values = (np.arange(24).reshape(4, 3, 2) * 3).astype(np.dtype(kind).newbyteorder(order))
    volume = reader.read(write(tmp_path / f"a{suffix}", values))
    np.testing.assert_array_equal(volume.values, values.T)
    assert volume.values.dtype == (np.float32 if np.dtype(kind).kind == "f" else np.int16)
    assert volume.spacing == (4.0, 3.0, 2.0)


def test_nifti2(tmp_path: Path, reader: Reader) -> None:
    values = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    nibabel.save(nibabel.Nifti2Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(reader.read(tmp_path / "a.nii.gz").values, values.T)


def test_slope_and_intercept(tmp_path: Path, reader: Reader) -> None:
    picture = nibabel.Nifti1Image(np.linspace(0, 1, 24).reshape(4, 3, 2), np.eye(4))
    picture.set_data_dtype(np.uint8)
    nibabel.save(picture, tmp_path / "a.nii")
    theirs = nibabel.load(tmp_path / "a.nii")
    assert theirs.dataobj.slope != 1
    np.testing.assert_allclose(reader.read(tmp_path / "a.nii").values, theirs.get_fdata().T, rtol=1e-6)


def test_orientation_brings_flipped_and_turned_files_to_one_array(tmp_path: Path, reader: Reader) -> None:
    """The same head written along other axes: what a network sees is the same."""
    values = np.random.default_rng(1).normal(size=(5, 6, 7)).astype(np.float32)
    first = nibabel.Nifti1Image(values, np.diag((1.0, 2, 3, 1)))
    nibabel.save(first, tmp_path / "a.nii")
    codes = nibabel.orientations.axcodes2ornt(("P", "S", "L"))
    nibabel.save(first.as_reoriented(codes), tmp_path / "b.nii")
    a, b = reader.read(tmp_path / "a.nii"), reader.read(tmp_path / "b.nii")
    assert a.values.shape != b.values.shape
    spec = MedicalSpec()
    (seen, placed), (other, other_placed) = (prepare(v.values, v.affine, False, spec) for v in (a, b))
    np.testing.assert_array_equal(seen, other)
    np.testing.assert_allclose(placed, other_placed)
    # LPS: columns grow to the left, where the file's first axis grew to the right.
    np.testing.assert_array_equal(seen, values[::-1, ::-1].T)


@pytest.mark.parametrize(("unit", "factor"), [(1, 1000.0), (3, 0.001)])
def test_sizes_in_metres_and_micrometres(tmp_path: Path, reader: Reader, unit: int, factor: float) -> None:
    sides = np.array((2.0, 3, 4)) / factor
    path = write(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8), np.diag((*sides, 1)), xyzt_units=unit)
    assert reader.read(path).spacing == pytest.approx((4.0, 3.0, 2.0))


def test_what_states_no_orientation_is_read_with_a_warning(tmp_path: Path, reader: Reader) -> None:
    path = write(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(raw)
    assert any("states no orientation" in warning for warning in reader.read(path).warnings)


def test_an_sform_that_contradicts_the_voxel_sizes_is_said(tmp_path: Path, reader: Reader) -> None:
    path = write(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8), pixdim=[1, 9, 9, 9, 0, 0, 0, 0])
    volume = reader.read(path)
    assert volume.spacing == (4.0, 3.0, 2.0)
    assert any("disagree" in warning for warning in volume.warnings)


@pytest.mark.parametrize(("shift", "said"), [(0.0, False), (0.1, False), (5.0, True)])
def test_a_qform_that_contradicts_the_sform_is_said(tmp_path: Path, reader: Reader, shift: float, said: bool) -> None:
    """Some readers take the one, some the other: an image and its mask may part ways here."""
    picture = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag((2.0, 3, 4, 1)))
    moved = picture.affine.copy()
    moved[0, 3] += shift
    picture.header.set_sform(picture.affine, 1)
    picture.header.set_qform(moved, 1)
    nibabel.save(picture, tmp_path / "a.nii")
    volume = reader.read(tmp_path / "a.nii")
    assert any("qform" in warning for warning in volume.warnings) == said
    np.testing.assert_allclose(volume.affine, (FLIP @ picture.affine)[:, [2, 1, 0, 3]])


SHEAR = np.eye(4)
SHEAR[0, 1] = 0.2


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (np.diag((0.0, 1, 1, 1)), "every side must lie between"),
        (np.diag((1e5, 1, 1, 1)), "every side must lie between"),
        (np.diag((np.nan, 1, 1, 1)), "not finite"),
        (SHEAR, "11.3 degrees off the right angle"),
        (np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "90.0 degrees off"),
    ],
)  # fmt: skip
def test_affines_that_are_no_grid(tmp_path: Path, reader: Reader, affine: Any, said: str) -> None:
    path = write(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[280:328] = np.asarray(affine[:3], "<f4").tobytes()
    path.write_bytes(raw)
    with pytest.raises(StepError, match=said):
        reader.read(path)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, reader: Reader, bad: float) -> None:
    values = np.zeros((2, 2, 2), np.float32)
    values[0, 0, 1] = bad
    with pytest.raises(StepError, match=r"NaN or infinite values \(1 in slice 2\)"):
        reader.read(write(tmp_path / "a.nii", values))


def test_values_that_float32_does_not_hold(tmp_path: Path, reader: Reader) -> None:
    values = np.zeros((2, 2, 2), np.float64)
    values[1, 1, 1] = -1e300
    with pytest.raises(StepError, match="holds values that float32 does not, in slice 2"):
        reader.read(write(tmp_path / "a.nii", values))
    raw = (write(tmp_path / "b.nii", np.full((2, 2, 2), 9, np.int16))).read_bytes()
    slope = np.float32(3e38).tobytes()
    (tmp_path / "b.nii").write_bytes(raw[:112] + slope + raw[116:])
    with pytest.raises(StepError, match="float32 does not"):
        reader.read(tmp_path / "b.nii")


def test_more_than_three_dimensions(reader: Reader) -> None:
    with pytest.raises(StepError, match=r"more than three dimensions \(128 x 96 x 24 x 2\)"):
        reader.read(DATA / "example4d.nii.gz")


@pytest.mark.parametrize(
    ("first", "replaced", "said"),
    [
        (0, b"\0\0\0\0", "is no NIfTI file"),
        (40, np.array((3, 2, -2, 2), "<i2").tobytes(), "every size must be at least 1"),
        (40, np.array((9, 2, 2, 2), "<i2").tobytes(), "states 9 dimensions"),
        (70, np.array(32, "<i2").tobytes(), "complex"),
        (108, np.array(1e9, "<f4").tobytes(), "begin at byte"),
        (344, b"ni1\0", "one half of a pair"),
    ],
)  # fmt: skip
def test_headers_that_make_no_sense(tmp_path: Path, reader: Reader, first: int, replaced: bytes, said: str) -> None:
    path = write(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[first : first + len(replaced)] = replaced
    path.write_bytes(raw)
    with pytest.raises(StepError, match=said):
        reader.read(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_cut_short(tmp_path: Path, reader: Reader, suffix: str, part: float) -> None:
    values = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    path = write(tmp_path / f"a{suffix}", values)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(StepError, match=r"cut short|no NIfTI file"):
        reader.read(path)


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_says(tmp_path: Path, reader: Reader) -> None:
    """A small image and then 2 GB of zeros, in 2 MB: the image is read, the zeros are not."""
    small = write(tmp_path / "a.nii", np.full((2, 2, 2), 7, np.uint8)).read_bytes()
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as stream:
        stream.write(small)
        for _ in range(64):
            stream.write(bytes(32 << 20))
    assert (reader.read(tmp_path / "bomb.nii.gz").values == 7).all()


def test_a_gzip_bomb_with_a_header_to_match_is_refused_unopened(tmp_path: Path, reader: Reader) -> None:
    raw = bytearray(write(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8)).read_bytes())
    raw[40:48] = np.array((3, 32767, 32767, 32767), "<i2").tobytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(raw) + bytes(1 << 20)))
    with pytest.raises(StepError, match="the limit is"):
        reader.read(tmp_path / "bomb.nii.gz")
