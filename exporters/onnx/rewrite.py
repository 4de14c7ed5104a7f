"""Rewrites of an ONNX graph: one rule, one function. Each returns None when it was applied, else the reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

PASS_THROUGH = frozenset({"Expand", "Unsqueeze", "Cast", "Identity", "Reshape", "Slice"})
"""Operators that move a mask without changing its values."""


class Uses:
    """Who makes and who reads each tensor of a graph, as it was when this was built."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.maker = {name: node for node in graph.node for name in node.output}
        self.constant = {tensor.name: tensor for tensor in graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def value(self, name: str) -> NDArray[Any] | None:
        """The constant behind a tensor name, if it is one."""
        import onnx

        tensor = self.constant.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def op(self, name: str) -> str:
        """Operator that makes a tensor, empty for inputs and constants."""
        return self.maker[name].op_type if name in self.maker else ""


def remove_softmax_nan_guards(graph: onnx.GraphProto) -> dict[str, str]:
    """Try `remove_softmax_nan_guard` at every IsNaN. IsNaN node -> reason for those left in place."""
    left = {}
    for node in [node for node in graph.node if node.op_type == "IsNaN"]:
        reason = remove_softmax_nan_guard(graph, node)
        if reason is not None:
            left[node.name] = reason
    remove_dead_nodes(graph)
    return left


def remove_softmax_nan_guard(graph: onnx.GraphProto, isnan: onnx.NodeProto) -> str | None:
    """Replace Where(IsNaN(p), 0, p) by p, for p = Softmax(scores + mask) with a finite mask.

    torch's attention decomposes to this guard because a row masked with -inf everywhere gives 0/0. A softmax over
    finite scores is never NaN, so with a finite mask the guard does nothing. A -inf in the mask is first made the
    lowest float32, which gives the same probabilities wherever one position may be attended to; a row in which none may
    (a case of padding only) becomes uniform instead of zero, still finite. Several converters refuse IsNaN (MNN 3.6).
    """
    uses = Uses(graph)
    probabilities = isnan.input[0]
    if uses.op(probabilities) != "Softmax":
        return f"its input is made by {uses.op(probabilities) or 'nothing'}, not Softmax"
    readers = uses.readers.get(isnan.output[0], [])
    if len(readers) != 1 or readers[0].op_type != "Where" or readers[0].input[0] != isnan.output[0]:
        return "it does not decide exactly one Where"
    where = readers[0]
    zero = uses.value(where.input[1])
    if zero is None or bool((zero != 0).any()) or where.input[2] != probabilities:
        return "the Where does not choose between zero and the probabilities"
    reason = _make_mask_finite(graph, uses, uses.maker[probabilities].input[0])
    if reason is not None:
        return reason
    _rename_input(graph, where.output[0], probabilities)
    return None


def _make_mask_finite(graph: onnx.GraphProto, uses: Uses, scores: str) -> str | None:
    import numpy as np
    import onnx

    if uses.op(scores) != "Add":
        return f"the scores are made by {uses.op(scores) or 'nothing'}, not an Add of the mask"
    fills = [fill for side in uses.maker[scores].input if (fill := _mask_fill(uses, side))]
    if len(fills) != 1:
        return "the mask is not a Where between constants"
    for name in fills[0]:
        value = uses.value(name)
        if value is None or bool(np.isnan(value).any()) or bool(np.isposinf(value).any()):
            return "the mask holds NaN or +inf"
        if bool(np.isneginf(value).any()):
            finite = np.maximum(value, np.finfo(value.dtype).min)
            uses.constant[name].CopyFrom(onnx.numpy_helper.from_array(finite, name))
    return None


def _mask_fill(uses: Uses, name: str) -> tuple[str, str] | None:
    while uses.op(name) in PASS_THROUGH:
        name = uses.maker[name].input[0]
    if uses.op(name) != "Where":
        return None
    _, chosen, other = uses.maker[name].input
    return (chosen, other) if chosen in uses.constant and other in uses.constant else None


def _rename_input(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def remove_dead_nodes(graph: onnx.GraphProto) -> int:
    """Drop nodes and initializers whose results nobody reads; returns how many nodes went."""
    before = len(graph.node)
    wanted = {item.name for item in graph.output}
    kept: list[Any] = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output):
            wanted.update(node.input)
            wanted.update(_captured(node))
            kept.append(node)
    keep_only(graph.node, list(reversed(kept)))
    keep_only(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in wanted])
    return before - len(graph.node)


def keep_only(field: Any, items: list[Any]) -> None:
    """Replace a repeated protobuf field by some of its own items, in order; their storage is copied first."""
    if len(items) == len(field):
        return
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _captured(node: onnx.NodeProto) -> set[str]:
    """Outer names that a node's sub-graphs may read."""
    names: set[str] = set()
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for child in inner.node:
                names.update(child.input)
                names.update(_captured(child))
            names.update(item.name for item in inner.output)
    return names
