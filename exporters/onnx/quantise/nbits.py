"""A linear layer as MatMulNBits, from codes and their grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .weights import ACCURACY_LEVEL

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from .grid import Quantised

DOMAIN = "com.microsoft"


def replace_layer(graph: onnx.GraphProto, name: str, quantised: Quantised) -> None:
    """MatMul `name`, whose right matrix is constant, becomes MatMulNBits of 4 bits that gives the same tensor.

    The format is ONNX Runtime's contrib operator's: two codes a byte, the earlier in the lower half, each column of the
    matrix by itself, and zero points likewise.
    """
    import numpy as np
    import onnx

    node = next(node for node in graph.node if node.name == name)
    k, n = quantised.codes.shape
    grid = quantised.grid
    stem = f"{node.input[1]}_{name}"
    arrays = {
        "codes": _pack(_pad(quantised.codes.T, grid.block)).reshape(n, -1, grid.block // 2),
        "scales": np.ascontiguousarray(grid.scales.T),
        "zero_points": _pack(_pad(grid.zeros.T.astype(np.uint8), 2)),
    }
    for suffix, array in arrays.items():
        graph.initializer.append(onnx.numpy_helper.from_array(array, f"{stem}_{suffix}"))
    weight = node.input[1]
    node.op_type, node.domain = "MatMulNBits", DOMAIN
    node.input[1:] = [f"{stem}_{suffix}" for suffix in arrays]
    del node.attribute[:]
    attributes = {"K": k, "N": n, "bits": 4, "block_size": grid.block, "accuracy_level": ACCURACY_LEVEL}
    node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
    if not any(weight in other.input for other in graph.node):
        graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == weight))


def _pad(rows: Any, multiple: int) -> Any:
    """(n, m) filled up with zeros on the right to a multiple."""
    import numpy as np

    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % multiple)))


def _pack(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, m / 2) of (n, m): the earlier of two codes in the lower four bits."""
    import numpy as np

    return np.ascontiguousarray(rows[:, 0::2] | rows[:, 1::2] << 4)
