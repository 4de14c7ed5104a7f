"""Weights where converters look for them, under the names they have in the model.

Constant nodes become initializers, transposes of weights are computed. torch.onnx transposes most weights itself and
calls the results val_12; its note of where each came from gives the name back.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .graph import every_node
from .rewrite import Uses, remove_dead_nodes

if TYPE_CHECKING:
    import onnx

FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"
"""Metadata of a tensor that onnxscript computed: the names it was computed from, as a list."""
ANONYMOUS = re.compile(r"val_\d+")


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


def name_folded_weights(graph: onnx.GraphProto) -> int:
    """Give initializers that torch.onnx computed from one weight that weight's name; returns how many.

    Before metadata goes. The same model gives the same names: they come from the modules' own, not from a counter.
    """
    sources = {
        value.name: _sources(entry.value)
        for value in graph.value_info
        for entry in value.metadata_props
        if entry.key == FOLDED_FROM
    }
    taken, renamed = _names(graph), {}
    for tensor in graph.initializer:
        found = [name for name in sources.get(tensor.name, ()) if "." in name]
        if ANONYMOUS.fullmatch(tensor.name) and len(found) == 1:
            renamed[tensor.name] = _free_name(found[0], taken)
            tensor.name = renamed[tensor.name]
    for node in every_node(graph):
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return len(renamed)


def _sources(text: str) -> Sequence[str]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ()
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else ()


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every tensor's, sub-graphs included."""
    inside = {name for node in every_node(graph) for name in (*node.input, *node.output)}
    return inside | {item.name for item in (*graph.input, *graph.output, *graph.initializer)}


def _free_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, with a suffix where the weight itself is still in use (a tied embedding), marked as taken."""
    name = wanted if wanted not in taken else f"{wanted}_transposed"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


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
