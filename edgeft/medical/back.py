"""A mask back to the grid that its image was acquired on. Numpy only; affines in mm, LPS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SKEW = 0.5
"""Voxels by which an axis of one grid may leave its axis of the other along its whole length."""


def onto_grid(
    mask: NDArray[np.uint8], affine: NDArray[np.float64], target: NDArray[np.float64], shape: Sequence[int]
) -> NDArray[np.uint8]:
    """The mask by nearest neighbour on the grid of `target` and `shape`. Both affines: index -> mm.

    The two grids lie along the same axes, in any order and direction, at any distance of their voxels: what
    preprocessing does to a volume. ValueError for any other. Where only order and direction differ this is exact.
    """
    axes, places = _along(affine, mask.shape, target, shape)
    picked = mask[np.ix_(*places)]
    return np.ascontiguousarray(picked.transpose([axes.index(axis) for axis in range(3)]))


def same_slices(
    affine: NDArray[np.float64], shape: Sequence[int], target: NDArray[np.float64], target_shape: Sequence[int]
) -> list[int] | None:
    """For each slice of the target grid the slice of the first that is the same plane; None where there is none."""
    axes, places = _along(affine, shape, target, target_shape)
    one_each = axes[0] == 0 and shape[0] == target_shape[0] and sorted(places[0]) == list(range(shape[0]))
    return [int(place) for place in places[0]] if one_each else None


def _along(
    affine: NDArray[np.float64], shape: Sequence[int], target: NDArray[np.float64], target_shape: Sequence[int]
) -> tuple[list[int], list[NDArray[np.int64]]]:
    """For each axis of the first grid: the target's axis along it, and the nearest place for each of its indices."""
    moved = np.linalg.inv(np.asarray(affine, np.float64)) @ np.asarray(target, np.float64)
    axes = [int(axis) for axis in np.abs(moved[:3, :3]).argmax(axis=1)]
    aside = np.abs(moved[:3, :3]) * (np.asarray(target_shape) - 1)
    aside[range(3), axes] = 0
    if sorted(axes) != [0, 1, 2] or aside.max() > SKEW:
        raise ValueError("the two grids do not lie along the same axes")
    places = []
    for axis, other in enumerate(axes):
        exact = moved[axis, other] * np.arange(target_shape[other]) + moved[axis, 3]
        # Half a voxel up, so that doubling or halving a distance never depends on how a half is rounded to even.
        nearest = np.floor(exact + 0.5 + 1e-6).astype(np.int64)
        places.append(np.clip(nearest, 0, shape[axis] - 1))
    return axes, places
