"""How far apart the borders of two masks lie, in mm: distances, their 95th percentile, and surface Dice.

The border of a mask is those of its elements (pixels, voxels) that have a neighbour across a face outside the mask;
what lies beyond the image counts as outside. Distances are between centres of elements. This is what MONAI computes by
default; DeepMind's `surface-distance` weights border elements by their area instead, which differs where spacing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]

PERCENTILE = 95.0


@dataclass(frozen=True)
class BorderDistances:
    """Of every border element of one mask to the nearest of the other's border, in mm; both ways.

    diagonal: of the image, from its first element's centre to its last one's, in mm: the largest distance there can be.
    """

    answer_to_truth: Floats
    truth_to_answer: Floats
    diagonal: float

    @property
    def empty(self) -> tuple[bool, bool]:
        """Whether the answer's mask is empty, and the truth's."""
        return not len(self.answer_to_truth), not len(self.truth_to_answer)


def border_distances(answer: Mask, truth: Mask, spacing: Sequence[float]) -> BorderDistances:
    """answer, truth: bool, of one shape ([depth,] height, width); spacing: mm between elements along each axis.

    Distances of a mask to an empty one are the diagonal. ValueError for arrays or spacing that do not fit.
    """
    import numpy as np
    from scipy.spatial import KDTree

    if answer.shape != truth.shape or len(spacing) != answer.ndim:
        raise ValueError(f"masks of shapes {answer.shape} and {truth.shape} with {len(spacing)} spacings")
    steps = np.asarray(spacing, dtype=np.float64)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(f"spacing {tuple(spacing)} is not positive")
    diagonal = float(np.linalg.norm((np.array(answer.shape) - 1) * steps))
    points = [np.argwhere(border(mask)) * steps for mask in (answer, truth)]
    if not all(map(len, points)):
        far = [np.full(len(part), diagonal) for part in points]
        return BorderDistances(far[0], far[1], diagonal)
    # a tree over the border alone: a stray pixel far away would make a distance transform cover the whole volume
    return BorderDistances(
        np.asarray(KDTree(points[1]).query(points[0])[0], dtype=np.float64),
        np.asarray(KDTree(points[0]).query(points[1])[0], dtype=np.float64),
        diagonal,
    )


def border(mask: Mask) -> Mask:
    """bool, of the mask's shape: its elements with a face to the outside."""
    import numpy as np
    from scipy.ndimage import binary_erosion

    inside = np.asarray(mask, dtype=bool)
    return np.asarray(inside & ~binary_erosion(inside), dtype=bool)


def hd95(distances: BorderDistances) -> float:
    """The larger of both directions' 95th percentiles (linear between elements), in mm.

    Both masks empty: 0. One empty: the image's diagonal.
    """
    import numpy as np

    if all(distances.empty):
        return 0.0
    if any(distances.empty):
        return distances.diagonal
    both = (distances.answer_to_truth, distances.truth_to_answer)
    return max(float(np.percentile(part, PERCENTILE)) for part in both)


def surface_dice(distances: BorderDistances, tolerance: float) -> float:
    """The share of both borders that lies within `tolerance` mm of the other one. Nikolov et al. 2018, arXiv
    1809.04430, with elements counted instead of areas. Both masks empty: 1. One empty: 0."""
    if any(distances.empty):
        return float(all(distances.empty))
    both = (distances.answer_to_truth, distances.truth_to_answer)
    near = sum(int((part <= tolerance).sum()) for part in both)
    return near / sum(map(len, both))


def volume_error(answer: int, truth: int) -> float:
    """|answer - truth| / truth of two volumes, at most 1. Both empty: 0. Only the truth empty: 1."""
    if truth == 0:
        return float(answer > 0)
    return min(1.0, abs(answer - truth) / truth)
