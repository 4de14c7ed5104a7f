"""AWQ (Lin et al. 2023, arXiv 2306.00978): large inputs are scaled down and their weights up, which spares them.

Own code, because no kept library does it to an ONNX graph as the paper has it. NNCF 3.4's modified AWQ scales only what
follows an activation function and is judged by means over whole texts; with zero points its graph of an opset below 21
is one that ONNX Runtime refuses (they are not packed), and its `all_layers` makes a MatMul of the embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .grid import plain_grid, round_to

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .moments import Moments

    Floats = NDArray[np.float32]

STEPS = 20
"""Exponents tried, 0 to 1: the paper's."""
SEARCHED = 2048
"""Columns, evenly taken, that the search looks at: the scales are shared by all of them."""
WORTH = 0.98
"""Scales that leave more of the error than this are not worth a changed graph."""


def search_scales(weight: Floats, moments: Moments, block: int) -> tuple[Floats | None, float]:
    """((k,) float32 to multiply the rows of `weight` by and divide the inputs by, share of the error that is left).

    weight: (k, n) float32, all layers that read the input side by side. The scales are powers of the inputs' mean size,
    of which the exponent with the least expected squared error of the answers is taken. None where no exponent helps.
    """
    import numpy as np

    step = max(1, weight.shape[1] // SEARCHED)
    sample = np.ascontiguousarray(weight[:, ::step])
    size = np.maximum(moments.size, 1e-4 * moments.size.max())
    if not size.max() > 0:
        return None, 1.0
    plain = _error(sample, np.ones_like(size), moments.second, block)
    best, least = None, plain
    for exponent in np.arange(1, STEPS + 1) / STEPS:
        scales = size**exponent
        scales = (scales / np.sqrt(scales.max() * scales.min())).astype(np.float32)
        error = _error(sample, scales, moments.second, block)
        if error < least:
            best, least = scales, error
    left = least / plain if plain > 0 else 1.0
    return (best, left) if left < WORTH else (None, 1.0)


def _error(weight: Floats, scales: Floats, second: Floats, block: int) -> float:
    """Expected squared error of the answers: trace of E^T H E, E the weights' error."""
    scaled = weight * scales[:, None]
    difference = round_to(scaled, plain_grid(scaled, block)).weights() / scales[:, None] - weight
    return float(((second @ difference) * difference).sum())
