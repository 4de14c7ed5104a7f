"""Windows of volumes as rows: which of them a step sees, drawn for training or spaced for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.data.volumes import has_masks, volume_masks, volumes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from edgeft.tasks.volume_spec import VolumeSpec

PLACES = ("plane", "row", "column")
"""Columns of a window's first voxel in its volume; below 0 where the volume is smaller than the window."""
OUTSIDE = -100
"""Label of voxels that lie outside the volume: the loss and the score leave them out."""
ON_TRUTH, SPACED = 2, 2
"""Windows per volume of what no chance decides: on voxels that are not background, and of those the device runs."""

Place = tuple[int, int, int]


def is_window_table(rows: pa.Table) -> bool:
    """Whether the rows are windows already."""
    return PLACES[0] in rows.column_names


def window_rows(rows: pa.Table, spec: VolumeSpec) -> pa.Table:
    """A few windows of each volume, each once: on evenly spaced foreground voxels, and evenly spaced in the volume."""
    found: list[list[Place]] = []
    masks = volume_masks(rows) if has_masks(rows) else None
    for _, volume in volumes(rows):
        truth = next(masks)[1] if masks is not None else None
        found.append(_spread(volume.shape, truth, spec))
    return _table(
        rows, [at for at, places in enumerate(found) for _ in places], [p for places in found for p in places]
    )


def drawn_rows(rows: pa.Table, spec: VolumeSpec, keys: Sequence[Sequence[int]]) -> pa.Table:
    """One window of each volume: a class is drawn from those it has, then one of its voxels, the window's middle.

    keys: what each row's draw depends on, and nothing else does.
    """
    import numpy as np

    places = []
    for (_, truth), key in zip(volume_masks(rows), keys, strict=True):
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))
        plain = np.asarray(truth).ravel()
        present = np.flatnonzero(np.bincount(plain, minlength=1))
        voxels = np.flatnonzero(plain == present[int(draw.integers(len(present)))])
        middle = np.unravel_index(int(voxels[int(draw.integers(len(voxels)))]), truth.shape)
        places.append(_around([int(at) for at in middle], truth.shape, spec.patch))
    return _table(rows, range(rows.num_rows), places)


def cut_windows(rows: pa.Table, spec: VolumeSpec) -> NDArray[np.uint8]:
    """uint8 (n, depth, height, width) of window rows; 0 outside the volume."""
    import numpy as np

    found = np.zeros((rows.num_rows, *spec.patch), np.uint8)
    for window, (_, volume), place in zip(found, volumes(rows), _places(rows), strict=True):
        _copy(volume, place, window)
    return found


def cut_masks(rows: pa.Table, patch: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """int64 (depth, height, width) of each window row; OUTSIDE beyond the volume."""
    import numpy as np

    for (_, truth), place in zip(volume_masks(rows), _places(rows), strict=True):
        window = np.full(tuple(patch), OUTSIDE, np.int64)
        _copy(truth, place, window)
        yield window


def _spread(shape: Sequence[int], truth: Any, spec: VolumeSpec) -> list[Place]:
    import itertools

    import numpy as np

    from edgeft.medical.sliding import starts

    found: list[Place] = []
    if truth is not None:
        voxels = np.flatnonzero(np.asarray(truth).ravel())
        for turn in range(ON_TRUTH if len(voxels) else 0):
            middle = np.unravel_index(int(voxels[(turn + 1) * len(voxels) // (ON_TRUTH + 1)]), shape)
            found.append(_around([int(at) for at in middle], shape, spec.patch))
    lines = [starts(max(have, patch), patch, spec.overlap) for have, patch in zip(shape, spec.patch, strict=True)]
    every = list(itertools.product(*lines))
    chosen = [every[(turn + 1) * len(every) // (SPACED + 1)] for turn in range(SPACED)]
    front = [max(0, patch - have) // 2 for have, patch in zip(shape, spec.patch, strict=True)]
    found += [(z - front[0], y - front[1], x - front[2]) for z, y, x in chosen]
    return list(dict.fromkeys(found))


def _around(middle: Sequence[int], shape: Sequence[int], patch: Sequence[int]) -> Place:
    """Where a window begins whose middle is nearest to a voxel; inside the volume where it fits."""
    ends = [
        -((size - have) // 2) if have < size else min(max(at - size // 2, 0), have - size)
        for at, have, size in zip(middle, shape, patch, strict=True)
    ]
    return ends[0], ends[1], ends[2]


def _copy(volume: Any, place: Place, window: Any) -> None:
    """What of the volume lies in the window."""
    inside, outside = [], []
    for at, have, size in zip(place, volume.shape, window.shape, strict=True):
        low, high = max(at, 0), min(at + size, have)
        outside.append(slice(low, high))
        inside.append(slice(low - at, high - at))
    window[tuple(inside)] = volume[tuple(outside)]


def _places(rows: pa.Table) -> list[Place]:
    return list(zip(*(rows.column(name).to_pylist() for name in PLACES), strict=True))


def _table(rows: pa.Table, at: Sequence[int], places: Sequence[Place]) -> pa.Table:
    import pyarrow as pa

    found = rows.take(pa.array(list(at), pa.int64()))
    for axis, name in enumerate(PLACES):
        found = found.append_column(name, pa.array([place[axis] for place in places], pa.int64()))
    return found
