"""4-bit grids of blocks of inputs: a scale and a whole zero point each, as ONNX Runtime's fast kernels take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Codes = NDArray[np.uint8]

TOP = 15
"""Largest code of 4 bits."""
SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Fractions of a block's range that are tried: clipping its ends gives all others finer steps."""
COLUMNS = 4096
"""Columns that are worked on at once: they do not depend on each other, and a head has as many as the vocabulary."""


@dataclass(frozen=True)
class Grid:
    """Of a (k, n) matrix in blocks of k. scales: (blocks, n) float32, above 0. zeros: (blocks, n) float32, whole, 0 to
    15. A weight is scale * (code - zero)."""

    block: int
    scales: Floats
    zeros: Floats

    def row(self, index: int) -> tuple[Floats, Floats]:
        """(scales, zeros), each (n,), of row `index` of the matrix."""
        return self.scales[index // self.block], self.zeros[index // self.block]


@dataclass(frozen=True)
class Quantised:
    """codes: (k, n) uint8, 0 to 15, and their grid."""

    codes: Codes
    grid: Grid

    def weights(self) -> Floats:
        """(k, n) float32, as the runtime reads them."""
        import numpy as np

        k, block = len(self.codes), self.grid.block
        scales, zeros = (np.repeat(part, block, axis=0)[:k] for part in (self.grid.scales, self.grid.zeros))
        return np.asarray((self.codes - zeros) * scales, np.float32)

    def columns(self, start: int, stop: int) -> Quantised:
        """Those from `start` on, before `stop`."""
        grid = Grid(self.grid.block, self.grid.scales[:, start:stop], self.grid.zeros[:, start:stop])
        return Quantised(self.codes[:, start:stop], grid)


def plain_grid(weight: Floats, block: int) -> Grid:
    """Blocks' full ranges, zero included, as rounding has them. weight: (k, n) float32."""
    import numpy as np

    blocks = _blocks(weight, block)
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)
    scales = np.where(high > low, (high - low) / TOP, 1).astype(np.float32)
    return Grid(block, scales, np.clip(np.rint(-low / scales), 0, TOP).astype(np.float32))


def fit_grid(weight: Floats, importance: Floats, block: int) -> Grid:
    """Of each block the clipped range and zero point with the least squared error, errors weighted by input.

    weight: (k, n) float32. importance: (k,) float32, the mean square of each input. Both neighbours of the exact zero
    point are tried: a range that does not hold a whole number of steps below zero then is covered by longer ones.
    """
    import numpy as np

    blocks, weights = _blocks(weight, block), _blocks(importance[:, None], block)
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)
    exact = TOP * -low / np.maximum(high - low, np.finfo(np.float32).tiny)
    best = np.full(low.shape, np.inf, np.float32)
    scales, zeros = np.ones_like(low), np.zeros_like(low)
    for zero in (np.floor(exact), np.ceil(exact)):
        with np.errstate(divide="ignore", invalid="ignore"):
            cover = np.fmax(np.where(zero < TOP, high / (TOP - zero), 0), np.where(zero > 0, -low / zero, 0))
        for part in SHRINK:
            scale = np.where(cover > 0, cover * np.float32(part), 1).astype(np.float32)
            codes = np.clip(np.rint(blocks / scale[:, None]), -zero[:, None], TOP - zero[:, None])
            error = ((codes * scale[:, None] - blocks) ** 2 * weights).sum(axis=1)
            better = error < best
            best[better], scales[better], zeros[better] = error[better], scale[better], zero[better]
    return Grid(block, scales, zeros)


def round_to(weight: Floats, grid: Grid) -> Quantised:
    """Each weight as the nearest code. weight: (k, n) float32."""
    import numpy as np

    k = len(weight)
    blocks = _blocks(weight, grid.block)
    codes = np.clip(np.rint(blocks / grid.scales[:, None]) + grid.zeros[:, None], 0, TOP)
    return Quantised(codes.reshape(-1, weight.shape[1])[:k].astype(np.uint8), grid)


def by_columns(weight: Floats, solve: Callable[[Floats], Quantised]) -> Quantised:
    """`solve` of (k, up to `COLUMNS`) at a time: what it holds besides the result does not grow with a vocabulary."""
    import numpy as np

    parts = [solve(weight[:, start : start + COLUMNS]) for start in range(0, weight.shape[1], COLUMNS)]
    if len(parts) == 1:
        return parts[0]
    grid = Grid(
        parts[0].grid.block,
        np.concatenate([part.grid.scales for part in parts], axis=1),
        np.concatenate([part.grid.zeros for part in parts], axis=1),
    )
    return Quantised(np.concatenate([part.codes for part in parts], axis=1), grid)


def _blocks(weight: Floats, block: int) -> Floats:
    """(blocks, block, n); the last block is filled up with zeros."""
    import numpy as np

    k, n = weight.shape
    missing = -k % block
    full = np.concatenate([weight, np.zeros((missing, n), weight.dtype)]) if missing else weight
    return full.reshape(-1, block, n)
