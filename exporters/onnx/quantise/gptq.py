"""GPTQ (Frantar et al. 2022, arXiv 2210.17323): each weight's rounding error is made up for by those not yet rounded.

Own code, because no kept library has it for ONNX graphs: NNCF 3.4 refuses `gptq` for this backend and keeps all
activations on OpenVINO's; ONNX Runtime's runs all cases once per layer and stops on small matrices; gptqmodel and
llm-compressor work on torch models, and the latter pins another transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.exporter import Unsupported

from .grid import TOP, Grid, Quantised, fit_grid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DAMPING = 0.01
"""Of the mean diagonal, added to it: the paper's. Inputs that hardly differ would else divide by nearly nothing."""
LAZY = 128
"""Rows whose errors are passed on together, so that most of the work is one matrix product: the paper's."""


def make_factor(second: Floats) -> tuple[NDArray[np.int64], Floats]:
    """(order of the inputs, upper Cholesky factor (k, k) float32 of the inverse moments in that order).

    Inputs go from the largest mean square to the smallest: the largest then have the most others to make up for them.
    second: (k, k) float32, mean of x x^T. Unsupported where it cannot be inverted.
    """
    import numpy as np

    diagonal = np.diag(second).astype(np.float64)
    order = np.argsort(-diagonal, kind="stable")
    damped = second[np.ix_(order, order)].astype(np.float64)
    mean = float(diagonal.mean())
    damped[np.diag_indices_from(damped)] += DAMPING * mean if mean > 0 else 1.0
    try:
        factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    except np.linalg.LinAlgError as error:
        reason = "GPTQ: the second moments of the activations cannot be inverted; more calibration cases may help"
        raise Unsupported(reason) from error
    return order, np.ascontiguousarray(factor, np.float32)


def quantise_gptq(
    weight: Floats, importance: Floats, order: NDArray[np.int64], factor: Floats, block: int
) -> Quantised:
    """Codes of a (k, n) float32 matrix; `order` and `factor` come from `make_factor`.

    The grid is fixed before: blocks lie along the inputs as they are in the file, and the kernel takes no other order.
    importance: (k,) float32, the mean square of each input.
    """
    import numpy as np

    k = len(weight)
    grid: Grid = fit_grid(weight, importance, block)
    left = weight[order].astype(np.float32)
    codes = np.empty(weight.shape, np.uint8)
    for start in range(0, k, LAZY):
        stop = min(start + LAZY, k)
        errors = np.empty((stop - start, weight.shape[1]), np.float32)
        for row in range(start, stop):
            scales, zeros = grid.row(int(order[row]))
            code = np.clip(np.rint(left[row] / scales) + zeros, 0, TOP)
            codes[order[row]] = code
            errors[row - start] = (left[row] - (code - zeros) * scales) / factor[row, row]
            left[row + 1 : stop] -= factor[row, row + 1 : stop, None] * errors[row - start]
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return Quantised(codes, grid)
