"""The .tflite flatbuffer as an object: canonical tensor names, its layers, its signature."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

TFLITE = "model.tflite"
LARGEST = (1 << 31) - 1
"""Offsets in a flatbuffer are signed 32-bit; what lies beyond (external weights) is not rewritten here."""
LINEAR, EMBEDDING = "FULLY_CONNECTED", "EMBEDDING_LOOKUP"
CONVOLUTION, DEPTHWISE, TRANSPOSED = "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"
LAYERS = (LINEAR, CONVOLUTION, DEPTHWISE, TRANSPOSED)
"""Operators whose second input is a weight that can be in 8 bits."""


def read_tflite(path: Path) -> Any:
    """The model as flatbuffers' object (ModelT). ValueError for what is no .tflite or is above 2 GiB."""
    from ai_edge_litert.tools.flatbuffer_utils import convert_bytearray_to_object

    if path.stat().st_size > LARGEST:
        raise ValueError("a .tflite above 2 GiB cannot be rewritten")
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise ValueError("this is no .tflite file")
    return convert_bytearray_to_object(data)


def write_tflite(model: Any, path: Path) -> None:
    """Packed in the schema's order: the same object gives the same bytes."""
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    path.write_bytes(convert_object_to_bytearray(model))


def digest_weight(array: NDArray[Any]) -> str:
    """A weight by its shape and bytes: the converter keeps both, and drops the names."""
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def name_tensors(model: Any, inputs: Sequence[str], outputs: Sequence[str], weights: Mapping[str, list[str]]) -> None:
    """Inputs and outputs get `inputs` and `outputs`, layers and their weights torch's names, the rest type and place.

    The converter writes chains of Python class names (1% of a MiniLM), the same for queries, keys and values.
    weights: digest -> names of the torch modules with that weight; each name is used once, in graph order.
    """
    import numpy as np

    left = {digest: list(names) for digest, names in weights.items()}
    graph = model.subgraphs[0]
    for index, operator in enumerate(graph.operators):
        kind = operator_kind(model, operator)
        name = f"{kind.lower()}_{index}"
        if kind in (*LAYERS, EMBEDDING):
            table = graph.tensors[operator.inputs[1]]
            data = model.buffers[table.buffer].data
            if data is not None and len(data):
                array = np.asarray(data).view(np.float32).reshape(table.shape)
                known = left.get(digest_weight(array), [])
                name = known.pop(0) if known else name
                table.name = f"{name}.weight".encode()
        for place, output in enumerate(operator.outputs):
            graph.tensors[output].name = (name if place == 0 else f"{name}:{place}").encode()
    signature = model.signatureDefs[0]
    for maps, places, names in (
        (signature.inputs, graph.inputs, inputs),
        (signature.outputs, graph.outputs, outputs),
    ):
        for entry, place, name in zip(maps, places, names, strict=True):
            entry.name, entry.tensorIndex = name.encode(), place
            graph.tensors[place].name = name.encode()
    _name_constants(model)
    model.description = b""


def _name_constants(model: Any) -> None:
    """Constants that no layer names: const_<tensor index>."""
    graph = model.subgraphs[0]
    made = {output for operator in graph.operators for output in operator.outputs} | set(graph.inputs)
    for index, tensor in enumerate(graph.tensors):
        if index not in made and not (tensor.name or b"").endswith(b".weight"):
            tensor.name = f"const_{index}".encode()


def operator_kind(model: Any, operator: Any) -> str:
    """FULLY_CONNECTED, ADD, ...; a custom operator by its own name."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == BuiltinOperator.CUSTOM:
        return str((code.customCode or b"CUSTOM").decode())
    return _names(BuiltinOperator).get(number, f"operator {number}")


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def count_operators(model: Any) -> dict[str, int]:
    """Operator -> how many of it, sorted by name."""
    found = Counter(operator_kind(model, operator) for operator in model.subgraphs[0].operators)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Layer:
    """A layer with a constant weight. scope: name of its output, by which ai-edge-quantizer knows it."""

    name: str
    op: str
    scope: str
    elements: int
    dtype: str


def list_layers(model: Any, kinds: Sequence[str] = LAYERS) -> list[Layer]:
    """Every layer of these kinds with constant weights, in graph order, under torch's names after `name_tensors`."""
    graph, found = model.subgraphs[0], []
    for operator in graph.operators:
        kind = operator_kind(model, operator)
        if kind in kinds:
            table, scope = graph.tensors[operator.inputs[1]], graph.tensors[operator.outputs[0]].name.decode()
            if _is_constant(model, table):
                weight = table.name.decode()
                name = weight.removesuffix(".weight") if weight.endswith(".weight") else scope
                found.append(Layer(name, kind, scope, prod(int(size) for size in table.shape), _dtype(table)))
    return found


def _is_constant(model: Any, tensor: Any) -> bool:
    """The buffer has bytes, inside the flatbuffer or behind it at an offset, where quantised files keep large ones."""
    buffer = model.buffers[tensor.buffer]
    return bool(buffer.size) or (buffer.data is not None and len(buffer.data) > 0)


def signature_of(model: Any) -> Signature:
    """Names, dtypes and shapes of the first signature; they are the canonical ones after `name_tensors`."""
    graph, signature = model.subgraphs[0], model.signatureDefs[0]

    def specs(maps: Any) -> dict[str, TensorSpec]:
        found = {}
        for entry in maps:
            tensor = graph.tensors[entry.tensorIndex]
            name = entry.name.decode()
            found[name] = TensorSpec(name, _dtype(tensor), tuple(int(size) for size in tensor.shape))
        return found

    return Signature(specs(signature.inputs), specs(signature.outputs))


def _dtype(tensor: Any) -> str:
    from ai_edge_litert.schema_py_generated import TensorType

    return _names(TensorType)[tensor.type].lower()
