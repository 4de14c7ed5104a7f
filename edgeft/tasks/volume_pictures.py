"""A few volumes of a segmentation as small pictures: of each the plane that holds most of what was to be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.data.volumes import volume_masks, volumes
from edgeft.record import ExampleRow
from edgeft.tasks.mask_pictures import draw_example, rank_cases

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def draw_planes(answered: NDArray[np.uint8], dice: NDArray[np.float64], rows: pa.Table) -> list[ExampleRow]:
    """answered: classes, (n, depth, rows, columns), padded behind each volume; dice: (n,); rows: their n rows."""
    from PIL import Image

    found = []
    for rank, place in rank_cases(dice).items():
        row = rows.slice(place, 1)
        name, volume = next(volumes(row))
        truth = next(volume_masks(row))[1]
        answer = answered[place][tuple(slice(extent) for extent in truth.shape)]
        plane = _fullest(truth, answer)
        shown = Image.fromarray(volume[plane].copy())
        case = f"{name}, plane {plane + 1} of {len(volume)}"
        found.append(draw_example(rank, case, float(dice[place]), shown, truth[plane].copy(), answer[plane].copy()))
    return found


def _fullest(truth: Any, answer: Any) -> int:
    """The plane with the most voxels that truth or answer do not call background; of equals the first."""
    return int(((truth > 0) | (answer > 0)).sum(axis=(1, 2)).argmax())
