"""Respell what LiteRT's converter has no form of as operators it has, with the same result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

DEFAULTS = (None, 1, 0, 0, 1, 1)
"""bias, stride, padding, output_padding, groups, dilation of a transposed convolution."""


def crop_transposed_convolutions(module: GraphModule) -> int:
    """Padded transposed convolutions become unpadded ones and a crop, in place; how many.

    Padding of a transposed convolution removes rows of its result, output padding gives some back at the end: the
    unpadded one holds them all, as long as no more is given back than was removed. The converter knows that one only.
    """
    import torch

    aten = torch.ops.aten
    planes = {aten.conv_transpose1d.default: 1, aten.conv_transpose2d.input: 2}
    done = 0
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in planes:
            done += _crop(node, planes[node.target])
    module.graph.lint()
    module.recompile()
    return done


def _crop(node: Node, planes: int) -> int:
    import torch

    given: list[Any] = [*node.args[2:], *DEFAULTS[len(node.args) - 2 :]]
    padding, extra = (_each(given[place], planes) for place in (2, 3))
    shape = getattr(node.meta.get("val"), "shape", None)
    if (
        shape is None
        or not all(type(size) is int for size in shape)
        or not any(padding)
        or any(more > less for more, less in zip(extra, padding, strict=True))
        or node.kwargs
    ):
        return 0
    given[1], given[5] = _each(given[1], planes), _each(given[5], planes)
    given[2], given[3] = [0] * planes, [0] * planes
    readers = list(node.users)
    node.args = (*node.args[:2], *given)
    last: Any = node
    for plane in range(planes):
        dim, start = len(shape) - planes + plane, padding[plane]
        with node.graph.inserting_after(last):
            sliced = (last, dim, start, start + int(shape[dim]))
            last = node.graph.call_function(torch.ops.aten.slice.Tensor, sliced)
    for reader in readers:
        reader.replace_input_with(node, last)
    return 1


def _each(value: Any, planes: int) -> list[int]:
    """One number per plane of a number, or of a list of one or of all."""
    sizes = [int(item) for item in value] if isinstance(value, list | tuple) else [int(value)]
    return sizes * planes if len(sizes) == 1 else sizes
