"""Where voxels lie in the patient: affines made, checked and compared. Numpy only; mm, LPS."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.limits import Refusal

Affine = NDArray[np.float64]
SPACING_LIMITS = (1e-4, 1e3)
"""mm between voxels: from a microscope's to what no scanner makes."""
MAX_TILT = 0.5
"""Degrees by which the stack's direction may leave the normal of its slices, or an axis the right angle to another."""
FIT = 0.1
"""Two grids are one where no corner lies further apart than this part of the smallest spacing."""


def plane_affine(
    position: Sequence[float] | None, orientation: Sequence[float] | None, spacing: Sequence[float], step: float
) -> Affine:
    """(slice, row, column, 1) -> mm of slices along the normal. PS3.3 C.7.6.2.1.1.

    orientation: direction in which columns increase, then in which rows increase; None: along +x and +y (L and P).
    """
    across, down = np.array((1.0, 0, 0)), np.array((0, 1.0, 0))
    if orientation is not None:
        across, down = np.asarray(orientation[:3], np.float64), np.asarray(orientation[3:], np.float64)
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if max(abs(length - 1) for length in lengths) > 0.01 or abs(across @ down) > 0.01:
        raise Refusal("has an ImageOrientationPatient that is not two perpendicular directions of length 1")
    across, down = across / lengths[0], down / lengths[1]
    affine = np.eye(4)
    affine[:3, 0] = np.cross(across, down) * step
    affine[:3, 1], affine[:3, 2] = down * spacing[0], across * spacing[1]
    if position is not None:
        affine[:3, 3] = position
    return affine


def check_affine(affine: Affine) -> tuple[float, float, float]:
    """Spacing of (slices, rows, columns) in mm; Refusal for an affine that is degenerate, sheared or out of scale."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise Refusal("has an affine that is not finite")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_LIMITS
    if lengths.min() < low or lengths.max() > high:
        shown = " x ".join(f"{length:.4g}" for length in lengths)
        raise Refusal(f"has voxels of {shown} mm; every side must lie between {low:g} and {high:g} mm")
    unit = affine[:3, :3] / lengths
    skew = max(abs(float(unit[:, a] @ unit[:, b])) for a, b in ((0, 1), (0, 2), (1, 2)))
    degrees = float(np.degrees(np.arcsin(min(skew, 1.0))))
    if degrees > MAX_TILT:
        what = f"has axes that are {degrees:.1f} degrees off the right angle"
        raise Refusal(what, "resample it to a grid of right angles first")
    first, second, third = (float(length) for length in lengths)
    return first, second, third


def corners(affine: Affine, shape: Sequence[int]) -> Affine:
    """(8, 3) mm of the outermost voxels' centres, in the order of the indices."""
    ends = product(*((0, size - 1) for size in shape))
    return np.array([[*end, 1] for end in ends], np.float64) @ affine[:3].T


def tolerance(affine: Affine) -> float:
    """mm by which a voxel may lie elsewhere and still be the same one."""
    return FIT * float(np.linalg.norm(affine[:3, :3], axis=0).min())


def matching_axes(
    affine: Affine, shape: Sequence[int], other: Affine, other_shape: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(order, flipped): `np.flip(array.transpose(order), flipped)` brings `other`'s array to the first grid.

    None where the two are not the same voxels in another order of the axes.
    """
    moved = np.linalg.inv(affine) @ other
    order = np.abs(moved[:3, :3]).argmax(axis=1)
    if sorted(order) != [0, 1, 2] or tuple(other_shape[axis] for axis in order) != tuple(shape):
        return None
    flipped = tuple(axis for axis in range(3) if moved[axis, order[axis]] < 0)
    rebuilt = np.zeros((4, 4))
    rebuilt[3, 3] = 1
    for axis in range(3):
        rebuilt[axis, order[axis]] = -1 if axis in flipped else 1
        rebuilt[axis, 3] = shape[axis] - 1 if axis in flipped else 0
    apart = corners(affine @ rebuilt, other_shape) - corners(other, other_shape)
    if float(np.linalg.norm(apart, axis=1).max()) > tolerance(affine):
        return None
    return tuple(int(axis) for axis in order), flipped
