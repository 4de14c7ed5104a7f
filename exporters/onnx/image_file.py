"""A decoder of image files in front of an ONNX graph: a JPEG's or PNG's bytes in, Pillow's pixels of it out.

Decoding is onnxruntime-extensions' DecodeImage, which gives BGR and leaves EXIF alone. The rest is standard operators.
What it must not be given (a JPEG cut off hangs it, another format ends the process, a grey JPEG is scrambled, past its
end: 0.15.2) is stopped before it, by an operator that fails under a name which says why: `file/must_be...`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from .front import PACKAGING, SHAPE, Parts, put_back
from .graph import opset_of
from .resize_nodes import resize

if TYPE_CHECKING:
    import onnx

    from edgeft.stage import Context
    from edgeft.tasks.image_spec import ImageSpec

PREFIX = "file/"
LEAST_OPSET = 13
"""ReduceSum and Unsqueeze take their axes as inputs from here on."""
HEAD = 256 << 10
"""Bytes searched for a JPEG's frame and an orientation; a photograph's metadata and its small picture stand before."""
FAR = 1 << 40
TURNS = ((0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0), (0, 0, 0))
"""EXIF orientation -> (swap rows and columns, then turn rows round, then columns); 0 and 9 stand for no valid one."""
ANY = -1
ENTRIES = ((1, 18, 0, 3, 0, 0, 0, 1, 0, ANY), (18, 1, 3, 0, 1, 0, 0, 0, ANY, 0))
"""The orientation's entry in EXIF, big and little endian; ANY: its value."""
COLOUR, GREY_FRAME = (
    tuple((255, marker, 0, 8 + 3 * count, 8, ANY, ANY, ANY, ANY, count) for marker in (0xC0, 0xC1, 0xC2))
    for count in (3, 1)
)
"""Frames of a JPEG: baseline, extended and progressive, 8 bits, so many colours."""
PATTERNS = (*ENTRIES, *COLOUR, *GREY_FRAME)
GREY = (19595, 38470, 7471)
"""Pillow's weights of red, green and blue, in 65536ths."""


@dataclass(frozen=True)
class Head:
    """A file's first bytes as floats, and for each of PATTERNS where it first stands and whether it does (0 or 1)."""

    parts: Parts
    values: str
    at: str
    has: str

    def any(self, patterns: tuple[tuple[int, ...], ...]) -> str:
        """int32 (1,): 1 where one of them is there."""
        import numpy as np

        first = PATTERNS.index(patterns[0])
        places = self.parts.array(f"patterns_{first}", np.arange(first, first + len(patterns)))
        return self.parts.op("ReduceMax", self.parts.op("Gather", self.has, places), keepdims=1)


def embed_decoder(model: onnx.ModelProto, ctx: Context) -> dict[str, Any]:
    """Put the decoder in front, in place, where preprocessing says so, once it gives the plain path's pixels of every
    calibration image. Facts: notes, image_files. Raises Unsupported."""
    about = json.loads((ctx.prepared / "preprocess.json").read_text(encoding="utf-8")) if ctx.prepared else {}
    if ctx.prepared is None or about.get("kind") != "image" or about["image"].get("embed") != "bytes":
        return {}
    from edgeft.data.table import read_split
    from edgeft.tasks.image_spec import read_spec

    from .image_parity import prove_pixels

    spec = read_spec(ctx.prepared)
    attach_decoder(model, spec)
    rows = read_split(ctx.splits["calibration"].path)
    return {"notes": [PACKAGING[PREFIX]], **prove_pixels(model, rows, spec)}


def attach_decoder(model: onnx.ModelProto, spec: ImageSpec) -> None:
    """Put the decoder in front, in place: the input becomes `file`, uint8 (1, bytes). Zeros behind the end are ignored.

    Raises Unsupported where the graph takes something else than pixels.
    """
    import numpy as np
    from onnx import TensorProto, helper

    from edgeft.tasks.image_spec import FILE, PIXELS

    weights = {tensor.name for tensor in model.graph.initializer}
    if other := sorted(item.name for item in model.graph.input if item.name not in {*weights, PIXELS}):
        raise Unsupported(f"the graph's input '{other[0]}' comes from no image file")
    if opset_of(model) < LEAST_OPSET:
        raise Unsupported(f"a decoder in the graph needs opset {LEAST_OPSET}, this one has {opset_of(model)}")
    parts = Parts(PREFIX)
    raw = parts.op("Reshape", FILE, parts.constant("flat", -1))
    head = _find(parts, raw)
    image = _turned(parts, _decoded(parts, raw, head), _orientation(parts, head))
    if spec.channels == 1:
        image = _grey(parts, image)
    small = resize(parts, image, spec)
    shape = parts.array(SHAPE, np.array([1, spec.height, spec.width, spec.channels], np.int64))
    parts.node("Cast", [parts.op("Reshape", small, shape)], [PIXELS], to=TensorProto.UINT8, domain="")
    put_back(model, parts.front(helper.make_tensor_value_info(FILE, TensorProto.UINT8, [1, "bytes"])))


def _decoded(parts: Parts, raw: str, head: Head) -> str:
    """uint8 (rows, columns, 3), BGR; an error for what the operator must not be given."""
    import numpy as np
    from onnx import TensorProto

    def equals(values: str, wanted: bytes) -> str:
        name = f"is_{wanted.hex()}"
        same = parts.op("Equal", values, parts.array(name, np.frombuffer(wanted, np.uint8).astype(np.int32)))
        return parts.op("ReduceMin", parts.op("Cast", same, to=TensorProto.INT32), keepdims=1)

    def bytes_at(places: str, called: str) -> str:
        return parts.op("Cast", parts.op("Gather", raw, places, called=called), to=TensorProto.INT32)

    def stop(index: str, called: str) -> str:
        wide = parts.op("Cast", index, to=TensorProto.INT64)
        return parts.op("Gather", parts.constant(f"only_{called}", 0), wide, called=called)

    whole = "must_be_a_whole_JPEG_or_PNG"
    end = _end(parts, raw)
    first = bytes_at(parts.array("first", np.arange(8)), f"{whole}_file")
    tail = bytes_at(parts.op("Add", end, parts.array("tail", np.arange(-8, 0))), f"{whole}_to_its_end")
    start = parts.op("Gather", first, parts.array("three", np.arange(3)))
    closed = parts.op("Gather", tail, parts.array("two", np.array([6, 7])))
    png, jpeg = equals(first, b"\x89PNG\r\n\x1a\n"), equals(start, b"\xff\xd8\xff")
    good_png = parts.op("Mul", png, equals(tail, b"IEND\xae\x42\x60\x82"))
    good = parts.op("Add", good_png, parts.op("Mul", jpeg, equals(closed, b"\xff\xd9")))
    one = parts.array("yes", np.array([1], np.int32))
    depth = bytes_at(parts.array("depth", np.array([24])), f"{whole}_with_a_header")
    deep = parts.op("Mul", png, equals(depth, b"\x10"))
    framed = parts.op("Mul", head.any(COLOUR), parts.op("Sub", one, head.any(GREY_FRAME)))
    begin = parts.op(
        "Sum",
        *(
            parts.op("Cast", stop(bad, called), to=TensorProto.DOUBLE)
            for bad, called in (
                (parts.op("Sub", one, good), whole),
                (deep, "must_have_8_bits_a_channel"),
                (parts.op("Mul", jpeg, parts.op("Sub", one, framed)), "must_be_a_JPEG_in_colour_or_a_PNG"),
            )
        ),
    )
    exact = parts.op("Slice", raw, parts.op("Cast", begin, to=TensorProto.INT64), end)
    parts.node("DecodeImage", [exact], [f"{PREFIX}decoded"], called="DecodeImage")
    three = parts.array("colours", np.array([1, 1, 3], np.int64))
    return parts.op("Expand", f"{PREFIX}decoded", three, called="must_be_grey_or_RGB")


def _end(parts: Parts, raw: str) -> str:
    """int64 (1,): where the zeros behind the last other byte begin."""
    from onnx import TensorProto

    filled = parts.op("Cast", parts.op("Cast", raw, to=TensorProto.BOOL), to=TensorProto.UINT8)
    last = parts.op("ArgMax", filled, axis=0, keepdims=1, select_last_index=1)
    return parts.op("Add", last, parts.constant("one", 1))


def _find(parts: Parts, raw: str) -> Head:
    """Where each pattern first stands in the head, by a convolution: the sum of squared differences is 0 there and only
    there, and exact in float32, being a whole number below 2^24."""
    import numpy as np
    from onnx import TensorProto

    fixed = np.array(PATTERNS, np.float32)
    known = (fixed >= 0).astype(np.float32)
    fixed *= known
    head = parts.op("Slice", raw, parts.constant("head_first", 0), parts.constant("head_last", HEAD))
    filled = parts.op("Concat", head, parts.array("filler", np.zeros(16, np.uint8)), axis=0)
    values = parts.op("Cast", filled, to=TensorProto.FLOAT)
    row = parts.op("Reshape", values, parts.array("row", np.array([1, 1, -1])))
    both = parts.op("Concat", row, parts.op("Mul", row, row), axis=1)
    kernel = parts.array("patterns", np.stack([-2 * fixed, known], axis=1))
    far = parts.op("Conv", both, kernel, parts.array("patterns_squared", (fixed**2).sum(axis=1)))
    zero = parts.array("zero", np.zeros(1, np.float32))
    found = parts.op("Cast", parts.op("Equal", far, zero), to=TensorProto.INT32)
    at, flat = parts.op("ArgMax", found, axis=2, keepdims=1), parts.constant("pair", -1)
    has = parts.op("Reshape", parts.op("GatherElements", found, at, axis=2), flat)
    return Head(parts, values, parts.op("Reshape", at, flat), has)


def _orientation(parts: Parts, head: Head) -> str:
    """int64 (1,): the first EXIF orientation in the head, at most 9; 1 where there is none."""
    import numpy as np
    from onnx import TensorProto

    big, little = (parts.array(name, np.array([place])) for name, place in (("big", 0), ("little", 1)))
    chosen = parts.constant("upright", 1)
    for entry, place in ((little, 8), (big, 9)):
        at = parts.op("Add", parts.op("Gather", head.at, entry), parts.constant(f"value_{place}", place))
        stated = parts.op("Cast", parts.op("Gather", head.values, at), to=TensorProto.INT64)
        has = parts.op("Cast", parts.op("Gather", head.has, entry), to=TensorProto.BOOL)
        chosen = parts.op("Where", has, stated, chosen)
    return parts.op("Min", chosen, parts.constant("ninth", 9))


def _turned(parts: Parts, image: str, orientation: str) -> str:
    """uint8 (rows, columns, 3) upright, RGB."""
    import numpy as np
    from onnx import TensorProto, helper

    turns = np.array(TURNS, np.int64)
    steps = np.concatenate([1 - 2 * turns[:, 1:], np.full((len(turns), 1), -1, np.int64)], axis=1)
    starts, ends = np.where(steps < 0, FAR, 0), np.where(steps < 0, -FAR, FAR)
    swap = parts.op("Gather", parts.array("swaps", turns[:, 0] == 1), orientation)
    turned = f"{PREFIX}swapped"

    def branch(kind: str, **attributes: Any) -> Any:
        node = helper.make_node(kind, [image], [f"{turned}_{kind}"], f"{PREFIX}{kind}_turn", **attributes)
        made = helper.make_tensor_value_info(f"{turned}_{kind}", TensorProto.UINT8, [None, None, None])
        return helper.make_graph([node], "turn", [], [made])

    parts.node(
        "If", [swap], [turned], domain="", then_branch=branch("Transpose", perm=[1, 0, 2]),
        else_branch=branch("Identity"),
    )  # fmt: skip
    flat = parts.constant("turn", -1)
    begin, end, step = (
        parts.op("Reshape", parts.op("Gather", parts.array(name, table), orientation), flat)
        for name, table in (("starts", starts), ("ends", ends), ("steps", steps))
    )
    return parts.op("Slice", turned, begin, end, parts.array("axes", np.arange(3)), step)


def _grey(parts: Parts, image: str) -> str:
    """int32 (rows, columns, 1) as Pillow's convert("L")."""
    import numpy as np
    from onnx import TensorProto

    weighted = parts.op("Mul", parts.op("Cast", image, to=TensorProto.INT32), parts.array("grey", np.array(GREY, "i4")))
    total = parts.op("ReduceSum", weighted, parts.constant("channel", 2), keepdims=1)
    half = parts.op("Add", total, parts.array("half_grey", np.array([32768], np.int32)))
    return parts.op("Div", half, parts.array("whole_grey", np.array([65536], np.int32)))
