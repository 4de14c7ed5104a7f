"""Masks to uint8 (slices, rows, columns) on the grid of their image, in the child process: NIfTI, PNG, DICOM SEG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.grid import matching_axes
from edgeft.medical.limits import Limits, Refusal
from edgeft.medical.nifti import open_nifti, read_frames

Mask = NDArray[np.uint8]
_PNG_MODES = ("1", "L", "P", "I;16")


def read_mask(
    request: Mapping[str, Any], files: Sequence[Path], limits: Limits, key: bytes, folder: Path,
    at: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """The answer to a request of op "mask"."""
    kind = request["kind"]
    if kind == "nifti":
        mask = _from_nifti(request, files[0], limits)
    elif kind == "png":
        mask = _from_png(request, files[0])
    else:
        from edgeft.medical.dicom.segmentation import read_segmentation

        mask = read_segmentation(request, files, limits, at)
    path = folder / "values.u1.npy"
    np.save(path, mask, allow_pickle=False)
    return {"npy": path.name, "shape": mask.shape}


def _from_nifti(request: Mapping[str, Any], path: Path, limits: Limits) -> Mask:
    """Axes may run otherwise than the image's; the voxels must be the same ones."""
    shape, affine = tuple(request["shape"]), np.asarray(request["affine"], np.float64)
    with open_nifti(path, limits) as image:
        axes = matching_axes(affine, shape, image.affine, image.shape)
        if axes is None:
            own, wanted = " x ".join(map(str, image.shape)), " x ".join(map(str, shape))
            what = f"lies on another grid ({own} voxels) than its image ({wanted}): size, affine or both differ"
            raise Refusal(what, "resample the mask to the image by nearest neighbour")
        mask = np.empty(image.shape, np.uint8)
        for number, frame in enumerate(read_frames(image)):
            mask[number] = _classes(frame, request["labels"], f"slice {number + 1}")
    order, flipped = axes
    return np.ascontiguousarray(np.flip(mask.transpose(order), flipped))


def _from_png(request: Mapping[str, Any], path: Path) -> Mask:
    """One slice; values are label numbers, or 0 and the largest for two labels."""
    from PIL import Image, UnidentifiedImageError

    count, rows, columns = request["shape"]
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if count != 1 or picture.size != (columns, rows):
                what = f"has {picture.height} x {picture.width} pixels, its image {rows} x {columns}"
                raise Refusal(what if count == 1 else f"is one slice, its image has {count}")
            if picture.mode not in _PNG_MODES:
                raise Refusal("is a colour picture: a mask holds label numbers", "save it as grey or with a palette")
            values = np.asarray(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, EOFError):
        raise Refusal("is no PNG that can be read", "is it complete?") from None
    if len(request["labels"]) == 2 and set(np.unique(values).tolist()) <= {0, 255}:
        values = values > 0
    return _classes(values.astype(np.float64), request["labels"], "it")[None]


def _classes(frame: NDArray[np.float64], labels: Sequence[str], where: str) -> Mask:
    """Values 0 .. len(labels) - 1; Refusal for anything else."""
    found = frame.astype(np.uint8)
    if not np.array_equal(found, frame):
        raise Refusal(f"is no mask: {where} has values that are not whole numbers from 0 to 255")
    if int(found.max()) >= len(labels):
        what = f"has the value {int(found.max())} in {where}, and there are {len(labels)} labels, from 0"
        raise Refusal(what, f"labels are {', '.join(labels)}")
    return found
