"""Operators between 8-bit layers that compute in 8 bits too, so that values need not go through float in between."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from ...joins import Place
from ..rewrite import Uses

if TYPE_CHECKING:
    import onnx

SAME = frozenset({
    "MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Split", "Slice", "Resize", "Relu", "Clip",
})  # fmt: skip
"""They give values that they read, in the same scale."""
JOIN = frozenset({"Add", "Concat", "AveragePool", "GlobalAveragePool"})
ELEMENTWISE = frozenset({"Mul", "Sigmoid", "LeakyRelu", "Softmax"})
"""Operators that ONNX Runtime's CPU has 8-bit kernels for."""
BETWEEN = {"conv": SAME | JOIN, "all": SAME | JOIN | ELEMENTWISE}


def quantised_neighbours(graph: onnx.GraphProto, nodes: Collection[str], operators: str) -> list[str]:
    """Names of nodes of a kind in `BETWEEN` all of whose activations come from 8-bit nodes, in graph order.

    One that also reads a float layer stays float: its operand would be rounded, which is what keeping a layer in float
    is to avoid.
    """
    uses, taken, found = Uses(graph), set(nodes), []
    for node in graph.node:
        if node.op_type not in BETWEEN[operators]:
            continue
        activations = activation_inputs(node, uses)
        makers = [uses.maker.get(name) for name in activations]
        if makers and all(maker is not None and maker.name in taken for maker in makers):
            taken.add(node.name)
            found.append(node.name)
    return found


def places(graph: onnx.GraphProto, layers: Collection[str]) -> Iterator[Place]:
    """A graph's nodes as `float_joins` reads them. layers: names of all that have weights."""
    uses = Uses(graph)
    for node in graph.node:
        makers = (uses.maker.get(name) for name in activation_inputs(node, uses))
        reads = tuple(maker.name if maker is not None else "" for maker in makers)
        yield Place(node.name, node.name in layers, node.op_type not in SAME, reads)


def activation_inputs(node: onnx.NodeProto, uses: Uses) -> list[str]:
    """Inputs that are neither constants nor absent; of operators that move values, the first alone is one."""
    names = [name for name in node.input if name and name not in uses.constant]
    return names[:1] if node.op_type in SAME else names


def activation_tensors(graph: onnx.GraphProto, layers: Collection[str], operators: str) -> list[str]:
    """Tensors whose ranges a static form may need: what the layers read, and with convolutions what they and the
    operators between them read and give."""
    uses = Uses(graph)
    chosen = set(layers)
    if operators != "linear":
        chosen |= set(quantised_neighbours(graph, layers, operators))
    found: dict[str, None] = {}
    for node in graph.node:
        if node.name not in chosen:
            continue
        names = node.input[:1] if node.name in set(layers) else activation_inputs(node, uses)
        for name in (*names, *(node.output if operators != "linear" else ())):
            if name and name not in uses.constant:
                found[name] = None
    return list(found)
