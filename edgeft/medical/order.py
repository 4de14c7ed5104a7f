"""From modality units to what a network sees, in one declared order. Numpy only: this file travels with a bundle.

    1. decode                      bits to stored values (the reader)
    2. modality LUT, or slope and intercept: stored values to units such as HU (the reader)
    3. window                      [lo, hi] of those units to [0, 1], clipped; the same for every image
    4. inversion                   1 - x where low values are shown bright (MONOCHROME1), over that fixed range
    5. orientation                 closest canonical axes: flips and transpositions, no interpolation
    6. spacing                     resampled to mm; antialiased linear, masks nearest

Nothing here looks at an image's own minimum or maximum: one bright pixel must not change all others. A mask takes
steps 5 and 6 alone. `restore_mask` undoes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Affine = NDArray[np.float64]
PLANE = "plane"
_AXES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Letter -> (axis of LPS, sign along which the index grows)."""


@dataclass(frozen=True)
class MedicalSpec:
    """What is done after the reader, as preprocess.json states it.

    window: (lo, hi) in modality units; None keeps them. invert: whether MONOCHROME1 is inverted; without a window it
    cannot be, and such images are refused. orientation: three letters of L/R, P/A, S/I for the directions in which
    (columns, rows, slices) grow, such as "LPS"; "plane" keeps the slices and turns each as it is usually shown; empty
    keeps the axes. spacing: mm between (slices, rows, columns), 0 keeps an axis; None keeps all.
    """

    window: tuple[float, float] | None = None
    orientation: str = "LPS"
    spacing: tuple[float, float, float] | None = None
    invert: bool = True

    def __post_init__(self) -> None:
        if self.window is not None and not (np.isfinite(self.window).all() and self.window[0] < self.window[1]):
            raise ValueError(f"window must be [lo, hi] with lo below hi, got {list(self.window)}")
        if self.orientation not in ("", PLANE):
            _target_axes(self.orientation)
        if self.spacing is not None and not all(np.isfinite(mm) and mm >= 0 for mm in self.spacing):
            raise ValueError(f"spacing must be three lengths in mm, 0 to keep one, got {list(self.spacing)}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "window": None if self.window is None else list(self.window),
            "orientation": self.orientation,
            "spacing": None if self.spacing is None else list(self.spacing),
            "invert": self.invert,
        }

    @classmethod
    def from_dict(cls, stated: Mapping[str, Any]) -> MedicalSpec:
        """The other way; ValueError for a key that is not known or a value of the wrong form."""
        unknown = sorted(set(stated) - {"window", "orientation", "spacing", "invert"})
        if unknown:
            raise ValueError(f"unknown key '{unknown[0]}'")
        window, spacing = stated.get("window"), stated.get("spacing")
        if (window is not None and len(window) != 2) or (spacing is not None and len(spacing) != 3):
            raise ValueError("window takes two numbers, spacing three")
        low_high = None if window is None else (float(window[0]), float(window[1]))
        lengths = None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2]))
        orientation, invert = str(stated.get("orientation", "LPS")), bool(stated.get("invert", True))
        return cls(low_high, orientation, lengths, invert)


def prepare(values: Array, affine: Affine, inverted: bool, spec: MedicalSpec) -> tuple[NDArray[np.float32], Affine]:
    """Steps 3 to 6 of (slices, rows, columns) in modality units: float32, and the affine of the new grid.

    With a window the result lies in [0, 1]. Raises ValueError for a MONOCHROME1 image without a window.
    """
    shown = window(values, *spec.window) if spec.window is not None else np.asarray(values, np.float32)
    if inverted and spec.invert:
        if spec.window is None:
            raise ValueError("a MONOCHROME1 image is inverted over the declared window, and none is declared")
        shown = invert(shown)
    return _to_grid(shown, affine, spec, mask=False)


def prepare_mask(mask: Array, affine: Affine, spec: MedicalSpec) -> tuple[Array, Affine]:
    """Steps 5 and 6 of a mask (slices, rows, columns) of whole numbers; the dtype stays."""
    return _to_grid(mask, affine, spec, mask=True)


def restore_mask(mask: Array, affine: Affine, shape: tuple[int, int, int], spec: MedicalSpec) -> Array:
    """A mask on the grid that `prepare` made of an image of `shape` and `affine`, back on that image's own grid."""
    order, flipped = turns(affine, spec.orientation)
    turned_shape = tuple(shape[axis] for axis in order)
    turned = orient_by(np.empty(shape, np.bool_), affine, order, flipped)[1]
    for axis, target in enumerate(_wanted(spec)):
        old = float(np.linalg.norm(turned[:3, axis]))
        if target and turned_shape[axis] > 1:
            mask = nearest_axis(mask, axis, turned_shape[axis], old / target)
    if mask.shape != turned_shape:
        raise ValueError(f"a mask of {mask.shape} is not what an image of {shape} is prepared to")
    return np.ascontiguousarray(np.flip(mask, flipped).transpose(np.argsort(order)))


def window(values: Array, low: float, high: float) -> NDArray[np.float32]:
    """[low, high] to [0, 1], clipped."""
    scaled = np.asarray(values, np.float32) - np.float32(low)
    scaled *= np.float32(1 / (high - low))
    np.clip(scaled, 0, 1, out=scaled)
    return scaled


def invert(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 - x of what lies in [0, 1]."""
    return np.float32(1) - shown


def quantise(shown: NDArray[np.float32], bits: int = 8) -> Array:
    """[0, 1] to whole numbers 0 .. 2^bits - 1, to the nearest; uint8 up to 8 bits, else uint16."""
    top = np.float32((1 << bits) - 1)
    whole: Array = np.rint(shown * top).astype(np.uint8 if bits <= 8 else np.uint16)
    return whole


def turns(affine: Affine, orientation: str) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """(order, flipped) that `orient_by` applies to bring an image's axes to `orientation`."""
    if not orientation:
        return (0, 1, 2), ()
    nearest, plane = _nearest_axes(affine), orientation == PLANE
    wanted = _target_axes(_usual_plane(nearest[0]) if plane else orientation)
    order = [nearest.index(axis) for axis, _ in wanted]
    signs = [float(affine[nearest[axis], axis]) * sign for axis, (_, sign) in zip(order, wanted, strict=True)]
    flipped = tuple(place for place in range(3) if signs[place] < 0 and not (plane and place == 0))
    first, second, third = order
    return (first, second, third), flipped


def orient_by(
    array: Array, affine: Affine, order: tuple[int, int, int], flipped: tuple[int, ...]
) -> tuple[Array, Affine]:
    """Axes transposed to `order`, then those in `flipped` reversed; voxels stay where they are in the patient."""
    moved = affine[:, [*order, 3]].copy()
    turned = array.transpose(order)
    for axis in flipped:
        moved[:3, 3] += moved[:3, axis] * (turned.shape[axis] - 1)
        moved[:3, axis] *= -1
    return np.ascontiguousarray(np.flip(turned, flipped)), moved


def resample(array: Array, affine: Affine, spacing: tuple[float, float, float], mask: bool) -> tuple[Array, Affine]:
    """To `spacing` mm (0 keeps an axis) about the same centre; an axis of one voxel is kept.

    Values: a triangle filter as wide as the larger of the two spacings, so that detail below it is averaged, not
    aliased. Masks: the nearest voxel. The field of view changes by less than half a new voxel at each side.
    """
    for axis, target in enumerate(spacing):
        old = float(np.linalg.norm(affine[:3, axis]))
        count = array.shape[axis]
        if not target or count == 1 or abs(target / old - 1) < 1e-6:
            continue
        scale = target / old
        size = max(1, round(count / scale))
        array = (nearest_axis if mask else _linear_axis)(array, axis, size, scale)
        affine = affine.copy()
        affine[:3, 3] += affine[:3, axis] * float(_centres(size, count, scale)[0])
        affine[:3, axis] *= scale
    return array, affine


def nearest_axis(array: Array, axis: int, size: int, scale: float) -> Array:
    """One axis to `size` places, `scale` old voxels apart, by the nearest voxel."""
    count = array.shape[axis]
    places = np.clip(np.floor(_centres(size, count, scale) + 0.5), 0, count - 1).astype(np.intp)
    return np.take(array, places, axis=axis)


def _linear_axis(array: Array, axis: int, size: int, scale: float) -> NDArray[np.float32]:
    count = array.shape[axis]
    centres, reach = _centres(size, count, scale), max(1.0, scale)
    first = np.floor(centres - reach).astype(np.intp) + 1
    result = np.zeros((*array.shape[:axis], size, *array.shape[axis + 1 :]), np.float32)
    total = np.zeros(size)
    taps = []
    for tap in range(int(np.ceil(2 * reach)) + 1):
        places = first + tap
        weights = np.maximum(0.0, 1 - np.abs(places - centres) / reach)
        total += weights
        taps.append((np.clip(places, 0, count - 1), weights))
    shape = [1] * array.ndim
    shape[axis] = size
    for places, weights in taps:
        result += np.take(array, places, axis=axis) * (weights / total).astype(np.float32).reshape(shape)
    return result


def _centres(size: int, count: int, scale: float) -> NDArray[np.float64]:
    """Where the new voxels' centres lie, in old voxels: `scale` apart, about the same middle."""
    return (np.arange(size, dtype=np.float64) - (size - 1) / 2) * scale + (count - 1) / 2


def _to_grid(array: Array, affine: Affine, spec: MedicalSpec, mask: bool) -> tuple[Array, Affine]:
    order, flipped = turns(affine, spec.orientation)
    turned, moved = orient_by(array, affine, order, flipped)
    return resample(turned, moved, _wanted(spec), mask)


def _wanted(spec: MedicalSpec) -> tuple[float, float, float]:
    return spec.spacing or (0.0, 0.0, 0.0)


def _target_axes(orientation: str) -> list[tuple[int, int]]:
    """(axis of LPS, sign) of slices, rows and columns; ValueError for what is no orientation."""
    found = [_AXES[letter] for letter in reversed(orientation) if letter in _AXES]
    if len(orientation) != 3 or sorted(axis for axis, _ in found) != [0, 1, 2]:
        what = "orientation must be three of L/R, P/A, S/I such as LPS, or 'plane', or empty"
        raise ValueError(f"{what}; got '{orientation}'")
    return found


def _usual_plane(normal: int) -> str:
    """Letters for (columns, rows, slices) of slices along an axis of LPS: sagittal, coronal, axial."""
    return ("PIL", "LIP", "LPS")[normal]


def _nearest_axes(affine: Affine) -> list[int]:
    """The axis of LPS that each array axis runs along, every one used once, by the largest direction cosines."""
    left = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    found = [0, 0, 0]
    for _ in range(3):
        patient, axis = np.unravel_index(int(left.argmax()), (3, 3))
        found[int(axis)] = int(patient)
        left[patient, :], left[:, axis] = -1, -1
    return found
