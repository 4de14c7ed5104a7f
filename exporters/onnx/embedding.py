"""Embedding tables in 8 bits with one scale per row: most of a small encoder's bytes, none of its time."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Layer, label_weights

from .rewrite import Uses, remove_dead_nodes

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

LEAST_ELEMENTS = 1 << 16
"""Smaller tables (positions, token types) stay float: nothing to gain."""


def large_tables(graph: onnx.GraphProto) -> list[Layer]:
    """Gather nodes over large float32 tables that nothing but Gather reads."""
    uses, found = Uses(graph), []
    for node in graph.node:
        table = uses.constant.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != 1 or len(table.dims) != 2 or prod(table.dims) < LEAST_ELEMENTS:
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if axis == 0 and all(reader.op_type == "Gather" for reader in uses.readers[node.input[0]]):
            label = label_weights(node.input[0])
            found.append(Layer(node.name, node.op_type, prod(table.dims), node.output[0], label))
    return found


def quantise_embeddings(graph: onnx.GraphProto, nodes: Collection[str]) -> list[str]:
    """Gather(W, ids) becomes Cast(Gather(W8, ids)) * Gather(scale, ids) for nodes of these names; returns the tables.

    Symmetric, one scale per row, as a row is one token's vector: its error does not depend on other tokens (a scale per
    table, ORT's choice, is set by the largest weight of all). Standard operators only, so any runtime takes it.
    """
    done = []
    for node in [node for node in graph.node if node.op_type == "Gather" and node.name in set(nodes)]:
        table = Uses(graph).value(node.input[0])
        if table is not None:
            done.append(node.input[0])
            _replace(graph, node, table)
    remove_dead_nodes(graph)
    return sorted(set(done))


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, table: NDArray[Any]) -> None:
    import onnx

    name, ids, result = node.input[0], node.input[1], node.output[0]
    rows, scales = quantise_rows(table)
    known = {tensor.name for tensor in graph.initializer}
    for suffix, array in (("_int8", rows), ("_scale", scales)):
        if name + suffix not in known:
            graph.initializer.append(onnx.numpy_helper.from_array(array, name + suffix))
    make = onnx.helper.make_node
    fresh = [
        make("Gather", [f"{name}_int8", ids], [f"{result}_int8"], name=f"{node.name}_int8", axis=0),
        make("Cast", [f"{result}_int8"], [f"{result}_cast"], name=f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
        make("Gather", [f"{name}_scale", ids], [f"{result}_scale"], name=f"{node.name}_scale", axis=0),
        make("Mul", [f"{result}_cast", f"{result}_scale"], [result], name=f"{node.name}_scaled"),
    ]
    place = next(index for index, other in enumerate(graph.node) if other.output[:1] == node.output[:1])
    del graph.node[place]
    for offset, item in enumerate(fresh):
        graph.node.insert(place + offset, item)


def quantise_rows(table: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """((rows, width) int8 in [-127, 127], (rows, 1) float32 scales); a row of zeros gets scale 1."""
    import numpy as np

    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(table / scales).astype(np.int8), scales
