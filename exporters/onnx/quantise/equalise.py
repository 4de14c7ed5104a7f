"""Cross-layer equalisation: channels of very different ranges are scaled alike before they share one 8-bit scale.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721, section
4.1. Written by hand because no kept library does it on ONNX graphs: AIMET's ONNX package pins an old ONNX Runtime, and
NNCF and ONNX Runtime have SmoothQuant alone, which leaves pairs of layers as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..layers import CONVOLUTION, layer_nodes
from ..rewrite import Uses

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from .statistics import Statistics

HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity"})
"""f(s x) = s f(x) for s > 0, channel by channel. Clip (ReLU6) is not one: its bound does not move."""


@dataclass(frozen=True)
class Pair:
    """A layer whose output only `second` reads, through `tensors`; constants: what is added in between, per channel."""

    first: str
    second: str
    tensors: tuple[str, ...]
    axis: int
    constants: tuple[str, ...]


def find_pairs(graph: onnx.GraphProto) -> list[Pair]:
    """Pairs in graph order whose weights no other node reads."""
    uses = Uses(graph)
    results = {item.name for item in graph.output}
    layers = {node.name: node for node in layer_nodes(graph)}
    found = []
    for first in layers.values():
        pair = _follow(first, layers, uses, results)
        if pair is not None and _scalable(layers[pair.first], layers[pair.second], uses):
            found.append(pair)
    return found


def _follow(first: onnx.NodeProto, layers: Mapping[str, Any], uses: Uses, results: set[str]) -> Pair | None:
    tensor = first.output[0]
    tensors: list[str] = []
    constants: list[str] = []
    while True:
        readers = uses.readers.get(tensor, [])
        if len(readers) != 1 or tensor in results:
            return None
        tensors.append(tensor)
        reader = readers[0]
        if reader.name in layers and reader.input[0] == tensor:
            same = (first.op_type in CONVOLUTION) == (reader.op_type in CONVOLUTION)
            axis = 1 if first.op_type in CONVOLUTION else -1
            return Pair(first.name, reader.name, tuple(tensors), axis, tuple(constants)) if same else None
        if reader.op_type == "Add" and first.op_type not in CONVOLUTION:
            other = next((name for name in reader.input if name != tensor), "")
            value = uses.value(other)
            if value is None or value.ndim != 1 or len(uses.readers[other]) != 1:
                return None
            constants.append(other)
        elif reader.op_type not in HOMOGENEOUS:
            return None
        tensor = reader.output[0]


def _scalable(first: onnx.NodeProto, second: onnx.NodeProto, uses: Uses) -> bool:
    """Weights are these nodes' own, and channels correspond one to one."""
    if any(len(uses.readers[name]) != 1 for node in (first, second) for name in node.input[1:] if name):
        return False
    outputs, inputs = _outputs(first, uses), _inputs(second, uses)
    return outputs is not None and inputs is not None and outputs.shape[0] == inputs.shape[0]


def choose_scales(
    graph: onnx.GraphProto, pairs: Sequence[Pair], statistics: Statistics
) -> dict[str, NDArray[np.int64]]:
    """First layer of a pair -> the power of two by which each of its channels is divided, as exponents.

    s = sqrt(r1 / r2) (equation 11), r2 being the second layer's weight range per input channel. With a weight scale per
    channel, the first layer's weight ranges do not matter, and what its output has measured stands in for r1. Rounded
    to powers of two, with which the float graph stays equal bit for bit.
    """
    import numpy as np

    uses, found = Uses(graph), {}
    nodes = {node.name: node for node in graph.node}
    for pair in pairs:
        ends = statistics.channels.get(pair.tensors[-1])
        outputs, inputs = _outputs(nodes[pair.first], uses), _inputs(nodes[pair.second], uses)
        if outputs is None or inputs is None:
            continue
        r1 = np.abs(outputs).max(axis=1) if ends is None else np.abs(ends).max(axis=0)
        r2 = np.abs(inputs).max(axis=1)
        usable = (r1 > 0) & (r2 > 0)
        ratio = np.where(usable, r1.astype(np.float64), 1) / np.where(usable, r2, 1)
        centred = np.log2(ratio) / 2
        centred -= np.median(centred[usable]) if usable.any() else 0  # the scale of all channels is no matter
        found[pair.first] = np.where(usable, np.rint(centred), 0).astype(np.int64)
    return {name: exponents for name, exponents in found.items() if exponents.any()}


def rescale(graph: onnx.GraphProto, pairs: Sequence[Pair], exponents: Mapping[str, NDArray[np.int64]]) -> None:
    """Divide each first layer's channels (weights and bias) by 2 ** exponent and multiply the second's, in place."""
    import numpy as np

    for pair in pairs:
        if pair.first not in exponents:
            continue
        scale: NDArray[np.float32] = np.exp2(exponents[pair.first]).astype(np.float32)
        inverse: NDArray[np.float32] = np.reciprocal(scale)
        uses = Uses(graph)
        nodes = {node.name: node for node in graph.node}
        first, second = nodes[pair.first], nodes[pair.second]
        _multiply(uses, first.input[1], inverse, _output_axis(first))
        for name in (*first.input[2:], *pair.constants):
            if name:
                _multiply(uses, name, inverse, 0)
        _multiply(uses, second.input[1], scale, _input_axis(second))


def scaled_ranges(
    pairs: Sequence[Pair], exponents: Mapping[str, NDArray[np.int64]], statistics: Statistics
) -> dict[str, tuple[float, float]]:
    """tensor -> (lowest, highest) of the tensors inside rescaled pairs: extremes of the channels, alike by now."""
    import numpy as np

    found = {}
    for pair in pairs:
        for tensor in pair.tensors:
            ends = statistics.channels.get(tensor)
            if pair.first in exponents and ends is not None:
                low, high = ends / np.exp2(exponents[pair.first]).astype(np.float32)
                found[tensor] = float(low.min()), float(high.max())
    return found


def _multiply(uses: Uses, name: str, scale: NDArray[np.float32], axis: int) -> None:
    import onnx

    value = uses.value(name)
    if value is None:
        return
    shape = [1] * value.ndim
    shape[axis] = -1
    uses.constant[name].CopyFrom(onnx.numpy_helper.from_array(value * scale.reshape(shape), name))


def _outputs(node: onnx.NodeProto, uses: Uses) -> NDArray[Any] | None:
    """(output channels, rest) of a layer's weight; None where groups mix them with something else."""
    weight = uses.value(node.input[1])
    if weight is None or (node.op_type == "ConvTranspose" and _groups(node) != 1):
        return None
    return _by_axis(weight, _output_axis(node))


def _inputs(node: onnx.NodeProto, uses: Uses) -> NDArray[Any] | None:
    """(input channels, rest) of a layer's weight; of grouped convolutions only depthwise ones have one."""
    weight, groups = uses.value(node.input[1]), _groups(node)
    if weight is None or (groups != 1 and (node.op_type != "Conv" or weight.shape[:2] != (groups, 1))):
        return None
    return _by_axis(weight, _input_axis(node))


def _by_axis(weight: NDArray[Any], axis: int) -> NDArray[Any]:
    import numpy as np

    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def _groups(node: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.i for attribute in node.attribute if attribute.name == "transB")


def _output_axis(node: onnx.NodeProto) -> int:
    if node.op_type == "Conv" or (node.op_type == "Gemm" and _transposed(node)):
        return 0
    return 1


def _input_axis(node: onnx.NodeProto) -> int:
    if node.op_type == "Conv" and _groups(node) != 1:
        return 0
    return 1 - _output_axis(node)
