"""8-bit layers through ONNX Runtime's quantisers: dynamic (MatMulInteger) and static (QDQ)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from ..graph import canonicalise
from ..layers import LINEAR, layer_nodes, resolve_operators
from ..rewrite import Uses, remove_dead_nodes
from .neighbours import quantised_neighbours
from .options import Compression

if TYPE_CHECKING:
    import onnx

Ranges = Mapping[str, tuple[float, float]]
PER_CHANNEL = True
"""A weight scale per output channel: no step is larger than the one of a whole matrix, and files and kernels are the
same but for a few bytes a channel."""


def quantise_dynamic(model: onnx.ModelProto, nodes: list[str], options: Compression) -> onnx.ModelProto:
    """Activations get their scale from each input at run time. The model is changed and returned.

    Linear layers only: dynamic 8-bit convolutions are several times slower than float ones (ORT#6732).
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    return _run(
        lambda: ONNXQuantizer(
            _inferred(model), PER_CHANNEL, options.reduce_range, QuantizationMode.IntegerOps, False,
            QuantType.QInt8, QuantType.QUInt8, None, nodes, [], list(LINEAR), _extra(),
        )
    )  # fmt: skip


def quantise_static(model: onnx.ModelProto, nodes: list[str], options: Compression, ranges: Ranges) -> onnx.ModelProto:
    """QDQ with unsigned activations in fixed ranges and signed weights.

    Linear layers give float results. Measured on a MiniLM (one x86 core with VNNI, sequence 64): signed activations
    12.2 ms, because ORT then has no fused kernel, unsigned 3.3 ms, unsigned with float layer outputs 3.0 ms, dynamic
    2.9 ms, float 8.2 ms. Convolutions give 8 bits, without which ORT has no integer kernel for them; so do the
    operators between them, where all they read is in 8 bits. A layer that is not in `nodes` reads float.
    """
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    operators = resolve_operators(model.graph, options.operators)
    kept = [node.name for node in layer_nodes(model.graph) if node.name not in set(nodes)]
    between = [] if operators == "linear" else quantised_neighbours(model.graph, nodes, operators)
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    wanted = {*nodes, *between}
    kinds = sorted({node.op_type for node in model.graph.node if node.name in wanted})
    fine = options.activation_bits == 16 or options.part == "weights"
    activations = QuantType.QUInt16 if fine else QuantType.QUInt8
    weights = QuantType.QInt16 if options.part == "activations" else QuantType.QInt8
    extra = {**_extra(), "QDQKeepRemovableActivations": True}
    if operators == "linear":
        extra["OpTypesToExcludeOutputQuantization"] = list(LINEAR)
    made = _run(
        lambda: QDQQuantizer(
            _inferred(model, ranges), PER_CHANNEL, options.reduce_range, weights, activations,
            TensorsData(CalibrationMethod.MinMax, data), [*nodes, *between], [], kinds, extra,
        )
    )  # fmt: skip
    _join_activations(made.graph, set(nodes))
    read_float(made.graph, kept)
    return made


def _join_activations(graph: onnx.GraphProto, nodes: Collection[str]) -> None:
    """A ReLU or Clip reads the layer before it without a scale in between: ONNX Runtime then fuses all three.

    ORT's quantiser would drop the ReLU and leave its work to the scale; a float reader of the layer would then go
    without it.
    """
    uses = Uses(graph)
    for node in graph.node:
        plain = undone(uses, node.input[0]) if node.op_type in ("Relu", "Clip") else ""
        maker = uses.maker.get(plain)
        if plain and maker is not None and maker.name in nodes:
            node.input[0] = plain
    remove_dead_nodes(graph)


def read_float(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Nodes named in `kept` read what others get through QuantizeLinear and DequantizeLinear as it was before them."""
    uses = Uses(graph)
    for node in graph.node:
        if node.name in set(kept):
            node.input[:] = [undone(uses, name) for name in node.input]
    remove_dead_nodes(graph)


def undone(uses: Uses, name: str) -> str:
    """The float activation behind a DequantizeLinear(QuantizeLinear(x)) pair; other names as they are."""
    dequantise = uses.maker.get(name)
    if dequantise is None or dequantise.op_type != "DequantizeLinear":
        return name
    quantise = uses.maker.get(dequantise.input[0])
    return quantise.input[0] if quantise is not None and quantise.op_type == "QuantizeLinear" else name


def _extra() -> dict[str, Any]:
    return {"MatMulConstBOnly": True, "DefaultTensorType": 1}


def _run(build: Any) -> onnx.ModelProto:
    """Quantise; what ORT's quantiser cannot take becomes Unsupported with its message."""
    with quiet():
        try:
            quantiser = build()
            quantiser.quantize_model()
            quantiser.model.topological_sort()  # it appends what it makes: passes over the nodes need their order
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
            raise Unsupported(f"ONNX Runtime's quantiser cannot take this model: {reason}") from error
    model: onnx.ModelProto = quantiser.model.model
    canonicalise(model)
    return model


def _inferred(model: onnx.ModelProto, floats: Iterable[str] = ()) -> onnx.ModelProto:
    """With inferred types, which the quantiser reads; over 2 GiB it must do without (float is its default type).

    floats: tensors measured to be float. It leaves out, without a word, what no type can be inferred for, such as the
    results of operators outside the standard.
    """
    import onnx

    canonicalise(model)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= 1_900_000_000:
        model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    known = {item.name for item in (*graph.input, *graph.output, *graph.value_info)}
    for name in floats:
        if name not in known:
            graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """ORT's quantiser tells the root logger to run pre-processing first, which the export has done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
