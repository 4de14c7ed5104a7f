"""Pillow's bilinear resizing in standard ONNX operators, for images of any size, to the last bit.

ONNX Runtime's own Resize, linear and antialiased, is up to 17 levels away from it on a photograph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeft.tasks.image_spec import ImageSpec

    from .front import Parts

ONE = float(1 << 22)
"""Pillow's weights are whole numbers of this many parts (PRECISION_BITS in its Resample.c). Their sums with pixels are
exact in float64, and would not be in float32."""


def resize(parts: Parts, image: str, spec: ImageSpec) -> str:
    """float64 (channels, height, width) whole numbers 0..255 of an image (rows, columns, channels): stretched, or the
    shorter side brought to `shortest` and the middle cut out."""
    import numpy as np
    from onnx import TensorProto

    shape = parts.op("Shape", image)
    given = parts.op("Gather", shape, parts.array("rows_columns", np.arange(2)))
    wanted = parts.array("wanted", np.array([spec.height, spec.width], np.int64))
    grown, offset = wanted, parts.array("offset", np.zeros(2, np.int64))
    if spec.shortest is not None:
        sides = [parts.op("Gather", given, parts.constant(f"side_{axis}", axis)) for axis in (0, 1)]
        scaled = parts.op("Mul", given, parts.constant("shortest", spec.shortest))
        grown = parts.op("Max", parts.op("Div", scaled, parts.op("Min", *sides)), wanted)
        offset = parts.op("Div", parts.op("Sub", grown, wanted), parts.constant("halves", 2))
    sizes = [parts.op("Cast", tensor, to=TensorProto.DOUBLE) for tensor in (given, grown, offset)]
    rows, columns = (
        _weights(parts, name, [_one(parts, tensor, axis, name) for tensor in (given, *sizes)], count)
        for axis, (name, count) in enumerate((("down", spec.height), ("across", spec.width)))
    )
    planes = parts.op("Cast", parts.op("Transpose", image, perm=[2, 0, 1]), to=TensorProto.DOUBLE)
    matrices = {"down": rows, "across": parts.op("Transpose", columns, perm=[1, 0])}
    small = f"{parts.prefix}small"
    parts.node(
        "If", [_rows_first(parts, given, grown)], [small], domain="",
        then_branch=_passes(parts, planes, matrices, ("down", "across")),
        else_branch=_passes(parts, planes, matrices, ("across", "down")),
    )  # fmt: skip
    return parts.op("Transpose", small, perm=[1, 2, 0])


def _rows_first(parts: Parts, given: str, grown: str) -> str:
    """bool (1,): whether more than twice as many rows as columns go. Pillow 13 then begins with them (its pull request
    9549), otherwise with the columns; as each pass rounds, the answers differ by a level."""
    import numpy as np

    less = parts.op("Sub", given, grown)
    rows = parts.op("Gather", less, parts.constant("less_rows", 0))
    columns = parts.op("Max", parts.op("Gather", less, parts.constant("less_columns", 1)), parts.constant("no_less", 0))
    return parts.op("Greater", rows, parts.op("Mul", columns, parts.array("twice", np.array([2]))))


def _passes(parts: Parts, planes: str, matrices: dict[str, str], order: tuple[str, str]) -> Any:
    """A graph of both passes, each rounded to whole levels, as Pillow keeps 8 bits between them."""
    import numpy as np
    from onnx import TensorProto, helper

    inner = type(parts)(parts.prefix, f"{order[0]}_first_")
    half, one = (
        parts.array(f"{inner.branch}{name}", np.array([value])) for name, value in (("half", ONE / 2), ("one", ONE))
    )
    found = planes
    for side in order:
        pair = (matrices[side], found) if side == "down" else (found, matrices[side])
        found = inner.op("Floor", inner.op("Div", inner.op("Add", inner.op("MatMul", *pair), half), one))
    made = helper.make_tensor_value_info(found, TensorProto.DOUBLE, [None, None, None])
    return helper.make_graph(inner.nodes, inner.branch, [], [made])


def _one(parts: Parts, tensor: str, axis: int, name: str) -> str:
    return parts.op("Gather", tensor, parts.constant(f"{name}_{tensor.rpartition('/')[2]}", axis))


def _weights(parts: Parts, name: str, sizes: list[str], wanted: int) -> str:
    """float64 (wanted, given): `resize_matrix` of the plain path in whole parts. sizes: given, and as floats given,
    grown and offset."""
    import numpy as np
    from onnx import TensorProto

    count, given, grown, offset = sizes
    unit, half = parts.array(f"{name}_unit", np.array([1.0])), parts.array(f"{name}_half", np.array([0.5]))
    factor = parts.op("Div", given, grown)
    support = parts.op("Max", factor, unit)
    places = parts.array(f"{name}_places", np.arange(wanted, dtype=np.float64)[:, None] + 0.5)
    centres = parts.op("Mul", parts.op("Add", places, offset), factor)
    scalar = parts.array(f"{name}_scalar", np.zeros(0, np.int64))
    ends = [parts.array(f"{name}_{end}", np.array(end, np.int64)) for end in (0, 1)]
    last = parts.op("Reshape", count, scalar)
    pixels = parts.op("Cast", parts.op("Range", ends[0], last, ends[1]), to=TensorProto.DOUBLE)
    distance = parts.op("Sub", parts.op("Add", pixels, half), centres)
    near = parts.op("Sub", unit, parts.op("Abs", parts.op("Div", distance, support)))
    weights = parts.op("Max", near, parts.array(f"{name}_none", np.array([0.0])))
    total = parts.op("ReduceSum", weights, parts.constant(f"{name}_axis", 1), keepdims=1)
    share = parts.op("Mul", parts.op("Div", weights, total), parts.array(f"{name}_one", np.array([ONE])))
    return parts.op("Floor", parts.op("Add", share, half))
