"""Compute only the rows that are read: a classifier that looks at one token needs the last block for that token alone.

The traced graph ends in `hidden[:, 0]`, and nothing but attention's keys and values mixes tokens, so queries, attention
output and feed-forward of the last block are computed for 64 rows and 63 are thrown away. Here the selection moves up
through row-wise operators, which leaves every answer as it was but for rounding. On a 6-layer MiniLM at sequence 64
that is 14% of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

Operands = dict[int, int | None]
"""Position of a tensor argument -> the dimension of it that the rows lie on; None: it is needed whole."""


@dataclass(frozen=True)
class Rows:
    """Rows start to end of dimension dim."""

    dim: int
    start: int
    end: int


def skip_unread_rows(module: GraphModule) -> int:
    """Rewrite an ATen graph of static shapes in place; the number of operators that now compute fewer rows."""
    wanted = _find_wanted(module)
    for node in list(module.graph.nodes):
        read = _selection(node)
        if node in wanted:
            _narrow(node, wanted[node], wanted)
        elif read is not None and node.args[0] in wanted:
            _reselect(node, wanted[node.args[0]])
    module.graph.lint()
    module.recompile()
    return len(wanted)


def _find_wanted(module: GraphModule) -> dict[Node, Rows]:
    """Nodes of which every reader needs the same few rows, and which can compute just those."""
    asked: dict[Node, list[Rows | None]] = {}
    wanted: dict[Node, Rows] = {}
    for node in reversed(module.graph.nodes):
        rows = _agreed(asked.get(node, []))
        operands = _operands(node, rows.dim) if rows else None
        if rows and operands is not None:
            wanted[node] = rows
            for position, dim in operands.items():
                ask = None if dim is None else Rows(dim, rows.start, rows.end)
                asked.setdefault(node.args[position], []).append(ask)
            continue
        read = _selection(node)
        for operand in node.all_input_nodes:
            asked.setdefault(operand, []).append(read if operand is node.args[0] else None)
    return wanted


def _agreed(asks: list[Rows | None]) -> Rows | None:
    return asks[0] if asks and all(ask == asks[0] for ask in asks) else None


def _selection(node: Node) -> Rows | None:
    """The rows that a select or a slice with step 1 reads of its operand; None for other nodes and for all rows."""
    import torch

    aten = torch.ops.aten
    if node.op != "call_function" or node.target not in (aten.select.int, aten.slice.Tensor):
        return None
    source: Any = node.args[0]
    dim = int(node.args[1] if len(node.args) > 1 else 0)
    shape = _shape(source)
    if shape is None:
        return None
    dim %= len(shape)
    size = shape[dim]
    if node.target is aten.select.int:
        start = int(node.args[2]) % size
        return Rows(dim, start, start + 1) if size > 1 else None
    given: list[Any] = [*node.args[2:], None, None, None][:3]
    start, end, step = slice(given[0], given[1], given[2]).indices(size)
    return Rows(dim, start, end) if step == 1 and 0 < end - start < size else None


def _narrow(node: Node, rows: Rows, wanted: dict[Node, Rows]) -> None:
    """Give the node only `rows` of its operands, and a target shape to match where it states one."""
    import torch

    args = list(node.args)
    for position, dim in (_operands(node, rows.dim) or {}).items():
        operand: Any = args[position]
        if dim is not None and operand not in wanted:
            with node.graph.inserting_before(node):
                args[position] = node.graph.call_function(
                    torch.ops.aten.slice.Tensor, (operand, dim, rows.start, rows.end)
                )
    if node.target in _views():
        size: Any = list(args[1])
        if size[rows.dim] != -1:
            size[rows.dim] = rows.end - rows.start
        args[1] = size
    node.args = tuple(args)


def _reselect(node: Node, rows: Rows) -> None:
    """The operand has only `rows` left: read all of them."""
    import torch

    if node.target is torch.ops.aten.select.int:
        node.args = (node.args[0], rows.dim, 0)
    else:
        node.args = (node.args[0], rows.dim, 0, rows.end - rows.start)


def _operands(node: Node, dim: int) -> Operands | None:
    """Which rows of which operands make the rows of this node along `dim`; None where that is not known."""
    if node.op != "call_function" or node.kwargs.keys() - {"approximate", "dtype"} or _shape(node) is None:
        return None
    rule = _rules().get(node.target)
    return rule(node, dim) if rule else None


def _rules() -> dict[Any, Callable[[Node, int], Operands | None]]:
    import torch

    aten = torch.ops.aten
    rules: dict[Any, Callable[[Node, int], Operands | None]] = dict.fromkeys(_views(), _view)
    pointwise = (
        aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.gelu.default, aten.relu.default,
        aten.silu.default, aten.tanh.default, aten.sigmoid.default, aten.dropout.default, aten.clone.default,
        aten.contiguous.default, aten.masked_fill.Scalar,
    )  # fmt: skip
    rules |= dict.fromkeys(pointwise, _pointwise)
    rules |= {
        aten.linear.default: lambda node, dim: _but_last(node, dim, 1),
        aten.layer_norm.default: lambda node, dim: _but_last(node, dim, len(node.args[1])),
        aten.softmax.int: _softmax,
        aten.matmul.default: _matmul,
        aten.transpose.int: _transpose,
        aten.permute.default: _permute,
    }
    return rules


def _views() -> tuple[Any, ...]:
    import torch

    return torch.ops.aten.view.default, torch.ops.aten.reshape.default


def _pointwise(node: Node, dim: int) -> Operands:
    """Broadcasting aligns shapes at the right; an operand without the dimension, or of size 1 there, is taken whole."""
    rank, found = len(_shape(node) or ()), {}
    for position, operand in enumerate(node.args):
        shape = _shape(operand)
        if shape is None:
            continue
        own = dim - rank + len(shape)
        found[position] = own if own >= 0 and shape[own] != 1 else None
    return found


def _but_last(node: Node, dim: int, mixed: int) -> Operands | None:
    """Operators that mix the last `mixed` dimensions; weights stay whole."""
    if dim >= len(_shape(node) or ()) - mixed:
        return None
    whole: Operands = {position: None for position, operand in enumerate(node.args) if _shape(operand) is not None}
    return {**whole, 0: dim}


def _softmax(node: Node, dim: int) -> Operands | None:
    rank = len(_shape(node) or ())
    return {0: dim} if int(node.args[1]) % rank != dim else None


def _matmul(node: Node, dim: int) -> Operands | None:
    """Rows of the left operand only; both of the same rank, so that dimensions correspond."""
    left, right = _shape(node.args[0]), _shape(node.args[1])
    if left is None or right is None or len(left) != len(right) or dim != len(left) - 2:
        return None
    return {0: dim, 1: None}


def _transpose(node: Node, dim: int) -> Operands:
    rank = len(_shape(node) or ())
    first, second = (int(axis) % rank for axis in node.args[1:3])
    return {0: {first: second, second: first}.get(dim, dim)}


def _permute(node: Node, dim: int) -> Operands:
    order: Any = node.args[1]
    return {0: int(order[dim]) % len(order)}


def _view(node: Node, dim: int) -> Operands | None:
    """The dimension keeps its size and has as many elements before it as in the operand."""
    after, before = _shape(node) or (), _shape(node.args[0]) or ()
    ahead = prod(after[:dim])
    for own, size in enumerate(before):
        if prod(before[:own]) == ahead and size == after[dim]:
            return {0: own}
    return None


def _shape(value: Any) -> tuple[int, ...] | None:
    """Shape of a tensor node; None for anything else and for shapes that are not fixed."""
    meta = getattr(value, "meta", None)
    example = meta.get("val") if meta else None
    shape = getattr(example, "shape", None)
    return tuple(int(size) for size in shape) if shape is not None and all(type(s) is int for s in shape) else None
