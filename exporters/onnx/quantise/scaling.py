"""Dividing what layers read by a scale per channel, in the weights of what gives it where that can be."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..rewrite import Uses

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def divide_input(graph: onnx.GraphProto, tensor: str, readers: Collection[str], scales: Floats) -> bool:
    """Layers named in `readers` read `tensor` (..., k) divided by scales (k,). True where the graph has no node more.

    The gain of a normalisation (a Mul by a constant, or LayerNormalization's) takes the scales where the layers are all
    that read the tensor; else a Mul goes before them.
    """
    import onnx

    uses = Uses(graph)
    others = any(tensor in node.input and node.name not in set(readers) for node in graph.node)
    shown = any(item.name == tensor for item in graph.output)
    maker = uses.maker.get(tensor)
    if maker is not None and not others and not shown and _fold(graph, uses, maker, scales):
        return True
    name = f"{tensor}_awq"
    graph.initializer.append(onnx.numpy_helper.from_array(1 / scales, f"{name}_scales"))
    place = min(index for index, node in enumerate(graph.node) if node.name in set(readers))
    graph.node.insert(place, onnx.helper.make_node("Mul", [tensor, f"{name}_scales"], [name], name=name))
    for node in graph.node:
        if node.name in set(readers):
            node.input[0] = name
    return False


def _fold(graph: onnx.GraphProto, uses: Uses, maker: onnx.NodeProto, scales: Floats) -> bool:
    """Into the constants of `maker`; False where it has none that can take them."""
    if maker.op_type == "Mul":
        places = [index for index, name in enumerate(maker.input) if _is_vector(uses, name, len(scales))]
        places = places[:1]
    elif maker.op_type == "LayerNormalization":
        places = [index for index, name in enumerate(maker.input) if index and name]
        if not all(_is_vector(uses, maker.input[index], len(scales)) for index in places):
            return False
    else:
        return False
    for index in places:
        maker.input[index] = _divided(graph, uses, maker.input[index], f"{maker.name}_{index}_awq", scales)
    return bool(places)


def _is_vector(uses: Uses, name: str, k: int) -> bool:
    """A constant with k values, along the last axis."""
    tensor = uses.constant.get(name)
    return tensor is not None and bool(tensor.dims) and tensor.dims[-1] == k and max(tensor.dims[:-1], default=1) == 1


def _divided(graph: onnx.GraphProto, uses: Uses, name: str, fresh: str, scales: Floats) -> str:
    """A constant of its own: others may read the one called `name`."""
    import numpy as np
    import onnx

    old: Any = onnx.numpy_helper.to_array(uses.constant[name])
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(old / scales, np.float32), fresh))
    if sum(list(node.input).count(name) for node in graph.node) == 1:
        graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
    return fresh
