"""Transposed convolutions as ordinary ones, exactly: OpenVINO's CPU plugin has 8-bit kernels for these, not for those.

Each of the stride's phases of the output is a convolution of its own (Shi et al. 2016, arXiv 1609.07009): all phases
together are one convolution with stride^2 as many channels, whose result depth-to-space lays out. A MONAI UNet's int8
form got 1.3 times faster by it on one core, its float form 3% slower, so it is done for int8 alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from edgeft.runtimes.ov import import_openvino

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def rewrite_transposed(model: Any, kept: Collection[str]) -> list[str]:
    """Names of the layers rewritten, in place: two-dimensional, one group, equal strides, output stride x input.

    kept: names of layers to leave as they are, because they stay in float.
    """
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "ConvolutionBackpropData" or node.get_friendly_name() in set(kept):
            continue
        if (geometry := _geometry(node)) is not None:
            _replace(node, *geometry)
            found.append(node.get_friendly_name())
    if found:
        model.validate_nodes_and_infer_types()
    return found


def phases(
    weight: NDArray[np.float32], stride: int, pads: list[int]
) -> tuple[NDArray[np.float32], list[int], list[int]]:
    """(weights (out x stride^2, in, ...) of the convolution, its pads before, its pads after) of (in, out, k, k).

    Output position stride x m + a takes input m + d through tap a + pad - stride x d, where there is such a tap.
    """
    import numpy as np

    taps = [_taps(weight.shape[2 + axis], stride, pads[axis]) for axis in (0, 1)]
    low = [min(d for _, d, _ in found) for found in taps]
    high = [max(d for _, d, _ in found) for found in taps]
    into, out = weight.shape[:2]
    made = np.zeros((out, stride, stride, into, high[0] - low[0] + 1, high[1] - low[1] + 1), dtype=np.float32)
    for a, d, k in taps[0]:
        for b, e, j in taps[1]:
            made[:, a, b, :, d - low[0], e - low[1]] = weight[:, :, k, j].T
    return made.reshape(out * stride * stride, into, *made.shape[4:]), [-value for value in low], high


def _taps(size: int, stride: int, pad: int) -> list[tuple[int, int, int]]:
    """(phase, shift of the input, tap) of one axis."""
    reach = range(-size, size + 1)
    every = [(a, d, a + pad - stride * d) for a in range(stride) for d in reach]
    return [(a, d, k) for a, d, k in every if 0 <= k < size]


def _geometry(node: Any) -> tuple[NDArray[np.float32], int, list[int]] | None:
    """(weights, stride, pads before), None where the rewrite does not hold."""
    about, source = node.get_attributes(), node.input_value(1).get_node()
    shape, given = node.get_output_partial_shape(0), node.get_input_partial_shape(0)
    strides, dilations = list(about["strides"]), list(about["dilations"])
    if source.get_type_name() != "Constant" or shape.is_dynamic or given.is_dynamic or len(shape) != 4:
        return None
    if node.get_input_size() > 2 or about["auto_pad"] != "explicit" or dilations != [1, 1]:
        return None
    if strides[0] != strides[1] or strides[0] < 2 or min(about["pads_begin"]) < 0:
        return None
    sizes = list(shape.to_shape())[2:], list(given.to_shape())[2:]
    if any(out != strides[0] * size for out, size in zip(*sizes, strict=True)):
        return None
    weight = source.get_data().astype("float32")
    for axis, pad in enumerate(about["pads_begin"]):
        found = _taps(weight.shape[2 + axis], strides[0], pad)
        shifts = [d for _, d, _ in found]
        if {a for a, _, _ in found} != set(range(strides[0])) or min(shifts) > 0 or max(shifts) < 0:
            return None
    return weight, strides[0], list(about["pads_begin"])


def _replace(node: Any, weight: NDArray[np.float32], stride: int, pads: list[int]) -> None:
    import_openvino()
    from openvino import opset13 as ops

    kernels, before, after = phases(weight, stride, pads)
    constant = ops.constant(kernels)
    convolution = ops.convolution(node.input_value(0), constant, [1, 1], before, after, [1, 1])
    spread = ops.depth_to_space(convolution, "depth_first", stride)
    name = node.get_friendly_name()
    constant.set_friendly_name(f"{name}/phases_weights")
    convolution.set_friendly_name(f"{name}/phases")
    spread.set_friendly_name(f"{name}/spread")
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(spread.output(0))
