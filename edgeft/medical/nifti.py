"""NIfTI-1 and -2, plain or gzipped, slice by slice: what the header states is all that is ever unpacked."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.grid import Affine, check_affine
from edgeft.medical.limits import Limits, Refusal, check_pixels

_GZIP = b"\x1f\x8b"
_KINDS = "iuf"
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""xyzt_units: not stated, metre, millimetre, micrometre."""
_FLIP = np.diag((-1.0, -1.0, 1.0, 1.0))
"""RAS, which NIfTI has, to LPS and back."""
_DAMAGED = "is it complete? copy or download it again"
_MAX_OFFSET = 16 << 20


@dataclass
class Nifti:
    """shape: (slices, rows, columns), the file's axes in reverse. affine: LPS, of that order of the axes."""

    stream: BinaryIO
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    affine: Affine
    spacing: tuple[float, float, float]
    slope: float
    intercept: float
    offset: int
    warnings: list[str] = field(default_factory=list)

    @property
    def integral(self) -> bool:
        return self.dtype.kind in "iu" and self.slope.is_integer() and self.intercept.is_integer()


@contextmanager
def open_nifti(path: Path, limits: Limits) -> Iterator[Nifti]:
    """Read and check the header. Refusal for what is no single 3-D image of real numbers on a grid of right angles."""
    size = path.stat().st_size
    if size > limits.file:
        raise Refusal(f"is {size / 1e9:.1f} GB; the limit is {limits.file / 1e9:.1f} GB")
    with path.open("rb") as raw:
        zipped = raw.read(2) == _GZIP
        raw.seek(0)
        if not zipped:
            yield _read_header(raw, limits)
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield _read_header(cast(BinaryIO, stream), limits)


def read_frames(image: Nifti) -> Iterator[NDArray[np.float64]]:
    """(rows, columns) of every slice, slope and intercept applied; Refusal where the file ends early or has NaN."""
    rows, columns = image.shape[1:]
    size = rows * columns * image.dtype.itemsize
    image.stream.seek(image.offset)
    for number in range(image.shape[0]):
        raw = _exactly(image.stream, size)
        if len(raw) < size:
            raise Refusal(f"ends in slice {number + 1} of {image.shape[0]}: it is cut short", _DAMAGED)
        frame = np.frombuffer(raw, image.dtype).reshape(rows, columns)
        if image.dtype.kind == "f" and not np.isfinite(frame).all():
            count = int((~np.isfinite(frame)).sum())
            hint = "write it again with a value for what is unknown"
            raise Refusal(f"holds NaN or infinite values ({count} in slice {number + 1})", hint)
        values = frame.astype(np.float64)
        yield values if (image.slope, image.intercept) == (1.0, 0.0) else values * image.slope + image.intercept


def _read_header(stream: BinaryIO, limits: Limits) -> Nifti:
    import nibabel

    head = _exactly(stream, 540)
    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    stated_size = {order: int(np.frombuffer(head[:4].ljust(4, b"\0"), order + "i4")[0]) for order in "<>"}
    order = next((order for order, size in stated_size.items() if size in kinds), "")
    size = stated_size.get(order, 0)
    if not size or len(head) < size:
        raise Refusal("is no NIfTI file", "read are NIfTI-1 and NIfTI-2, .nii and .nii.gz")
    if size == 348 and head[344:347] != b"n+1":
        raise Refusal("is one half of a pair (.hdr and .img), or Analyze", "save it as .nii.gz")
    try:
        header = kinds[size](head[:size], endianness=order, check=False)
        stated = [int(item) for item in header["dim"]]
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        offset = int(header["vox_offset"])
    except Exception:  # noqa: BLE001 - nibabel raises many kinds for a damaged header
        raise Refusal("has a NIfTI header that cannot be parsed", _DAMAGED) from None
    shape = _shape(stated)
    if dtype.kind not in _KINDS or dtype.itemsize > 8 or dtype.names:
        raise Refusal("holds complex, colour or extended numbers; integers and floats are read")
    check_pixels(*shape[1:], shape[0], limits, max(4, dtype.itemsize))
    if not size <= offset <= _MAX_OFFSET:
        raise Refusal(f"states that its data begin at byte {offset:,}: that cannot be", _DAMAGED)
    affine, warnings = _affine(header)
    spacing = check_affine(affine)
    slope, intercept = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    if not np.isfinite((slope, intercept)).all():
        raise Refusal("has a slope or intercept that is not finite")
    return Nifti(stream, dtype, shape, affine, spacing, slope, intercept, offset, warnings)


def _shape(stated: list[int]) -> tuple[int, int, int]:
    count = stated[0]
    if not 2 <= count <= 7:
        raise Refusal(f"states {count} dimensions", _DAMAGED)
    sides = [*stated[1 : count + 1], 1][: max(count, 3)]
    if any(side != 1 for side in sides[3:]):
        shown = " x ".join(map(str, sides))
        raise Refusal(f"has more than three dimensions ({shown})", "save each volume or direction as a file")
    return sides[2], sides[1], sides[0]


def _affine(header: Any) -> tuple[Affine, list[str]]:
    """LPS, in mm; the sform before the qform before the voxel sizes, as nibabel chooses."""
    warnings = []
    if not (int(header["sform_code"]) or int(header["qform_code"])):
        warnings.append("the file states no orientation (sform and qform are 0): voxel sizes alone were used")
    try:
        found = np.asarray(header.get_best_affine(), np.float64)
    except Exception:  # noqa: BLE001 - a quaternion longer than 1, a qfac of 0
        raise Refusal("has an orientation that cannot be parsed", _DAMAGED) from None
    if int(header["sform_code"]) == 0 and not (np.asarray(header["pixdim"][1:4], np.float64) > 0).all():
        raise Refusal("has a voxel size that is not above 0")
    if int(header["sform_code"]):
        lengths, sizes = np.linalg.norm(found[:3, :3], axis=0), np.abs(np.asarray(header["pixdim"][1:4], np.float64))
        if not np.allclose(lengths, sizes, rtol=0.01):
            warnings.append("its sform and its voxel sizes disagree: the sform was used")
    code = int(header["xyzt_units"]) & 0b111
    if code not in _MILLIMETRES:
        raise Refusal("states its sizes in a unit that NIfTI does not define")
    found[:3] *= _MILLIMETRES[code]
    return (_FLIP @ found)[:, [2, 1, 0, 3]], warnings


def _exactly(stream: BinaryIO, size: int) -> bytes:
    parts: list[bytes] = []
    left = size
    try:
        while left and (part := stream.read(left)):
            parts.append(part)
            left -= len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Refusal("is gzipped, and damaged or cut short", _DAMAGED) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)
