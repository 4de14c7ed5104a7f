"""Weights where converters look for them: Constant nodes become initializers, transposes of weights are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rewrite import Uses, remove_dead_nodes

if TYPE_CHECKING:
    import onnx


def lift_constants(graph: onnx.GraphProto) -> int:
    """Constant nodes with a tensor value become initializers of the same name; returns how many."""
    lifted = 0
    for node in [node for node in graph.node if node.op_type == "Constant" and len(node.attribute) == 1]:
        attribute = node.attribute[0]
        if attribute.name != "value":
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        graph.node.remove(node)
        lifted += 1
    return lifted


def fold_transposed_weights(graph: onnx.GraphProto) -> int:
    """Transpose of an initializer is computed here, once; returns how many. Quantisers see only initializers."""
    import numpy as np
    import onnx

    uses = Uses(graph)
    folded = 0
    for node in graph.node:
        value = uses.value(node.input[0]) if node.op_type == "Transpose" else None
        if value is None:
            continue
        order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
        moved = np.ascontiguousarray(np.transpose(value, order))
        graph.initializer.append(onnx.numpy_helper.from_array(moved, node.output[0]))
        node.output[0] += "_unused"
        folded += 1
    remove_dead_nodes(graph)
    return folded
