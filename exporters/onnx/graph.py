"""ONNX files: read, check, stamp for a target, write as canonical bytes, and name their tensors canonically."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, Signature, TensorSpec
from edgeft.exporter import Unsupported

if TYPE_CHECKING:
    import onnx

MODEL, DATA = "model.onnx", "model.onnx.data"
EXTERNAL_ABOVE = 1_900_000_000
"""Bytes of weights above which they go to model.onnx.data: protobuf messages end at 2 GiB."""
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets that ONNX Runtime's released packages carry."""
ALIASES = {
    "input_ids": ("input_ids", "input_ids:0", "input_word_ids", "ids"),
    "attention_mask": ("attention_mask", "attention_mask:0", "input_mask", "input_mask:0", "mask"),
    "pixel_values": ("pixel_values", "pixel_values:0", "input", "input.1", "images", "image", "x", "data"),
    "token_type_ids": ("token_type_ids", "token_type_ids:0", "segment_ids", "segment_ids:0", "input_type_ids"),
}
"""Canonical feed -> what exporters in use call it."""


def model_file(artifact: Artifact) -> Path:
    """The .onnx file of an artefact that is a file or a folder. Unsupported when a folder holds none or several."""
    if artifact.path.is_file():
        return artifact.path
    if (artifact.path / MODEL).is_file():
        return artifact.path / MODEL
    found = sorted(artifact.path.glob("*.onnx"))
    if len(found) != 1:
        raise Unsupported(f"expected one .onnx file, found {len(found)}")
    return found[0]


def read_model(path: Path) -> onnx.ModelProto:
    """The whole model, external data included, after onnx.checker. Unsupported with the checker's first line."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    try:
        onnx.checker.check_model(str(path))
        return onnx.load(str(path))
    except (onnx.checker.ValidationError, DecodeError, ValueError, OSError) as error:
        raise Unsupported(f"not a valid ONNX model: {_first_line(error)}") from error


def check_operators(model: onnx.ModelProto) -> None:
    """Unsupported, with its name, at the first operator of a domain the runtime does not carry."""
    local = {(function.domain, function.name) for function in model.functions}
    for node in every_node(model.graph):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in local:
            raise Unsupported(f"custom operator of domain {node.domain}", op=node.op_type)


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of all its sub-graphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from every_node(inner)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operator set."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def stamp(model: onnx.ModelProto, opset: int, ir_version: int) -> onnx.ModelProto:
    """Bring a model to at most `opset`, with the lowest IR version its operator sets need, at most `ir_version`.

    A lower IR version opens in more runtimes and says nothing less. Otherwise Unsupported, with the reason.
    """
    import onnx

    if opset_of(model) > opset:
        have = opset_of(model)
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
            reason = _first_line(error).rpartition("failed: ")[2]  # after the converter's own source line
            raise Unsupported(f"opset {have} cannot be lowered to {opset}: {reason}") from error
    standard = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx", "ai.onnx.ml")]
    needed = max(8, onnx.helper.find_min_ir_version_for(standard, True))
    if needed > ir_version:
        raise Unsupported(f"opset {opset_of(model)} needs IR version {needed}, the device takes {ir_version}")
    model.ir_version = needed
    return model


def canonicalise(model: onnx.ModelProto) -> None:
    """Drop, in place, all that does not compute: doc strings, metadata (the exporter writes machine paths), value_info.

    value_info goes because stored shapes contradict inferred ones after edits, and ORT's quantiser stops at that.
    """
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.model_version = 0
    del model.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        del function.value_info[:]
        for node in function.node:
            _clear_node(node)
    _clear_graph(model.graph)


def _clear_graph(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    graph.name = "model"
    del graph.value_info[:]
    del graph.metadata_props[:]
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    for node in graph.node:
        _clear_node(node)


def _clear_node(node: onnx.NodeProto) -> None:
    node.doc_string = ""
    del node.metadata_props[:]
    for attribute in node.attribute:
        attribute.doc_string = ""
        for inner in (attribute.g, *attribute.graphs):
            if inner.node:
                _clear_graph(inner)


def write_model(model: onnx.ModelProto, out: Path, external_above: int = EXTERNAL_ABOVE) -> None:
    """model.onnx in `out`, deterministic; above `external_above` bytes of weights they go to model.onnx.data."""
    import onnx

    canonicalise(model)
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights > external_above:
        onnx.external_data_helper.convert_model_to_external_data(
            model, all_tensors_to_one_file=True, location=DATA, size_threshold=1024, convert_attribute=False
        )
        model = onnx.external_data_helper.write_external_data_tensors(model, str(out))
    (out / MODEL).write_bytes(model.SerializeToString(deterministic=True))


def read_signature(path: Path) -> Signature:
    """Canonical names to the graph's own tensors; weights are not read. An input with no known alias keeps its name.

    The output `logits` is the one of that name, else the first.
    Unsupported when the file is none.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (DecodeError, ValueError, OSError) as error:
        raise Unsupported(f"not an ONNX file, or not a whole one: {_first_line(error)}") from error
    return signature_of(graph)


def signature_of(graph: onnx.GraphProto) -> Signature:
    """As `read_signature`, of a graph in memory."""
    if not graph.node:
        raise Unsupported("an ONNX file without a single operator")
    weights = {tensor.name for tensor in graph.initializer}
    canonical = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    inputs = {canonical.get(item.name, item.name): _spec(item) for item in graph.input if item.name not in weights}
    outputs = {item.name: _spec(item) for item in graph.output}
    if outputs and "logits" not in outputs:
        first = next(iter(outputs))
        outputs = {("logits" if name == first else name): spec for name, spec in outputs.items()}
    return Signature(inputs=inputs, outputs=outputs)


def _spec(item: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = item.type.tensor_type
    if not tensor.elem_type:
        raise Unsupported(f"'{item.name}' is not a tensor")
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or f"dim_{index}")
        for index, dim in enumerate(tensor.shape.dim)
    )
    if tensor.elem_type == onnx.TensorProto.STRING:
        return TensorSpec(item.name, "str", shape)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(item.name, str(dtype), shape)


def _first_line(error: BaseException) -> str:
    lines: list[Any] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return str(lines[0])[:300] if lines else type(error).__name__
