"""From a decoded slice to the pixels of an artefact, as preprocess.json states it. Numpy and the standard library only.

Training, the host and every device run this file, with order.py beside it; both travel with a bundle. A decoded slice
is a .npz of `values` (1, rows, columns), int16 or float32 in modality units, `affine` (4, 4) and `inverted`, one byte.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DISTRIBUTIONS = ("numpy",)
IMPORTS = ("numpy",)
MAGIC = b"PK\x03\x04"
NAMES = ("values", "affine", "inverted")
KINDS = ("<i2", "<f4", "|u1")
MOST_PIXELS = 1 << 30
EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(values: NDArray[Any], affine: NDArray[Any], inverted: bool) -> bytes:
    """One slice as bytes; equal slices give equal bytes."""
    arrays = (values, np.asarray(affine, "<f8"), np.array(int(inverted), np.uint8))
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for name, array in zip(NAMES, arrays, strict=True):
            one = io.BytesIO()
            np.lib.format.write_array(one, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), one.getvalue())
    return raw.getvalue()


def unpack(raw: bytes) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """(values, affine, inverted). ValueError for bytes that `pack` did not write; nothing grows beyond the bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            items = archive.infolist()
            if [item.filename for item in items] != [f"{name}.npy" for name in NAMES]:
                raise ValueError("other arrays than values, affine and inverted")
            if any(item.compress_type != zipfile.ZIP_STORED or item.file_size > len(raw) for item in items):
                raise ValueError("compressed arrays")
            values, affine, inverted = (
                np.lib.format.read_array(io.BytesIO(archive.read(item)), allow_pickle=False) for item in items
            )
    except (zipfile.BadZipFile, EOFError, KeyError, OSError) as error:
        raise ValueError(f"no decoded slice: {error}") from error
    if values.ndim != 3 or values.dtype.str not in KINDS or not 0 < values.size <= MOST_PIXELS:
        raise ValueError(f"values are {values.dtype} {values.shape}")
    if affine.shape != (4, 4) or affine.dtype.str != "<f8" or not np.isfinite(affine).all():
        raise ValueError("the affine is not 4 x 4 finite numbers")
    return values, affine, bool(inverted)


def pixels(raw: bytes, stated: Mapping[str, Any], order: Any) -> NDArray[np.uint8]:
    """uint8 (rows, columns, channels), as the feed `pixels` holds it. stated: preprocess.json; order: module order.py.

    Window, inversion, orientation and spacing by `order.prepare`; then stretched, or resized by the shorter side and
    cut, antialiased bilinear in float64; then to the nearest of 256 levels. ValueError where it cannot be done.
    """
    values, affine, inverted = unpack(raw)
    shown, _ = order.prepare(values, affine, inverted, order.MedicalSpec.from_dict(stated["medical"]))
    if shown.shape[0] != 1:
        raise ValueError(f"an orientation that gives {shown.shape[0]} slices of one: 'plane' keeps them")
    image = stated["image"]
    grey = order.quantise(np.clip(fit(shown[0], image), 0, 1))
    return np.repeat(grey[:, :, None], int(image["channels"]), axis=2)


def fit(plane: NDArray[Any], image: Mapping[str, Any]) -> NDArray[np.float32]:
    """float32 (rows, columns) at the size that is given to the artefact."""
    height, width = image["source"] or (image["height"], image["width"])
    shortest = image["shortest"]
    if shortest is None:
        return resize(plane, height, width)
    down, across = (side * shortest // min(plane.shape) for side in plane.shape)
    grown = resize(plane, max(height, down), max(width, across))
    top, left = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return grown[top : top + height, left : left + width]


def resize(plane: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Antialiased bilinear, rows then columns, in float64."""
    if plane.shape == (height, width):
        return np.asarray(plane, np.float32)
    rows, columns = resize_matrix(plane.shape[0], height), resize_matrix(plane.shape[1], width)
    return np.asarray(rows @ plane.astype(np.float64) @ columns.T, np.float32)


def resize_matrix(given: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, given) weights of antialiased bilinear resizing along one axis.

    A triangle filter stretched by the factor of reduction and normalised, as Pillow's BILINEAR computes its
    coefficients (`precompute_coeffs` in its Resample.c); Pillow then rounds to 8 bits after each axis, this does not.
    """
    factor = given / wanted
    support = max(1.0, factor)
    centres = (np.arange(wanted) + 0.5) * factor
    lowest = np.maximum(0, (centres - support + 0.5).astype(np.int64))
    highest = np.minimum(given, (centres + support + 0.5).astype(np.int64))
    places = np.arange(given)
    distance = np.abs((places[None, :] - centres[:, None] + 0.5) / support)
    weights = np.clip(1 - distance, 0, None)
    weights *= (places[None, :] >= lowest[:, None]) & (places[None, :] < highest[:, None])
    matrix: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return matrix
