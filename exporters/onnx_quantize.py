"""8-bit linear layers through ONNX Runtime's quantisers: dynamic (MatMulInteger) and static (QDQ)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeft.exporter import Unsupported

from .onnx_graph import canonicalise, every_node
from .onnx_rewrite import Uses

if TYPE_CHECKING:
    import onnx

LINEAR = ["MatMul", "Gemm"]
"""Dynamic 8-bit convolutions are several times slower than float ones (ORT#6732), so only these are quantised."""
ALREADY = (
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearMatMul",
    "QGemm",
    "QAttention",
    "MatMulNBits",
)


class Int8(BaseModel):
    """Options of the 8-bit variants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["dynamic", "static"] = Field(description="Activation scales from each input, or from calibration.")
    per_channel: bool = Field(True, description="One weight scale per output column, not per matrix.")
    reduce_range: bool = Field(False, description="7-bit weights: x86 without VNNI saturates u8 x s8 pair sums.")
    head: Literal["float", "int8"] = Field("float", description="The last linear layer.")
    embeddings: Literal["float", "int8-rows"] = Field("int8-rows", description="Large embedding tables.")
    ranges: Literal["minmax", "average"] = Field("average", description="Static only: how ranges are taken.")


def linear_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """MatMul and plain Gemm nodes with a constant float32 matrix on the right, in graph order."""
    uses = Uses(graph)
    found = []
    for node in graph.node:
        weight = uses.value(node.input[1]) if node.op_type in LINEAR else None
        if weight is None or weight.ndim != 2 or weight.dtype != "float32" or node.input[0] in uses.constant:
            continue
        if all(attribute.f == 1 for attribute in node.attribute if attribute.name in ("alpha", "beta")) and not any(
            attribute.i for attribute in node.attribute if attribute.name == "transA"
        ):
            found.append(node)
    return found


def choose_nodes(graph: onnx.GraphProto, options: Int8, keep_float: Iterable[str]) -> list[str]:
    """Names of the nodes to quantise. Unsupported where nothing can be, or a layer to keep is unknown."""
    done = next((node.op_type for node in every_node(graph) if node.op_type in ALREADY), None)
    if done:
        raise Unsupported("the model is already quantised", op=done)
    names = [node.name for node in linear_nodes(graph)]
    if not names:
        raise Unsupported("no linear layer with constant float32 weights", op="MatMul")
    unknown = sorted(set(keep_float) - {node.name for node in graph.node})
    if unknown:
        raise Unsupported(f"no layer is called '{unknown[0]}'")
    if options.head == "float" and len(names) > 1:
        names = names[:-1]
    return [name for name in names if name not in set(keep_float)]


def quantise_dynamic(model: onnx.ModelProto, nodes: list[str], options: Int8) -> onnx.ModelProto:
    """Activations get their scale from each input at run time. The model is changed and returned."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    return _run(
        lambda: ONNXQuantizer(
            _inferred(model), options.per_channel, options.reduce_range, QuantizationMode.IntegerOps, False,
            QuantType.QInt8, QuantType.QUInt8, None, nodes, [], LINEAR, _extra(),
        )
    )  # fmt: skip


def quantise_static(
    model: onnx.ModelProto, nodes: list[str], options: Int8, ranges: Mapping[str, tuple[float, float]]
) -> onnx.ModelProto:
    """QDQ with unsigned 8-bit activations in fixed ranges, signed weights, and float results of every layer.

    Measured on a MiniLM (one x86 core with VNNI, sequence 64): signed activations 12.2 ms, because ORT then has no
    fused kernel, unsigned 3.3 ms, unsigned with float layer outputs 3.0 ms, dynamic 2.9 ms, float 8.2 ms.
    """
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    return _run(
        lambda: QDQQuantizer(
            _inferred(model), options.per_channel, options.reduce_range, QuantType.QInt8, QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, data), nodes, [], LINEAR,
            {**_extra(), "OpTypesToExcludeOutputQuantization": LINEAR},
        )
    )  # fmt: skip


def _extra() -> dict[str, Any]:
    return {"MatMulConstBOnly": True, "DefaultTensorType": 1}


def _run(build: Any) -> onnx.ModelProto:
    """Quantise; what ORT's quantiser cannot take becomes Unsupported with its message."""
    with _quiet():
        try:
            quantiser = build()
            quantiser.quantize_model()
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
            raise Unsupported(f"ONNX Runtime's quantiser cannot take this model: {reason}") from error
    model: onnx.ModelProto = quantiser.model.model
    canonicalise(model)
    return model


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """With inferred types, which the quantiser reads; over 2 GiB it must do without (float is its default type)."""
    import onnx

    canonicalise(model)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > 1_900_000_000:
        return model
    return onnx.shape_inference.infer_shapes(model)


@contextmanager
def _quiet() -> Iterator[None]:
    """ORT's quantiser tells the root logger to run pre-processing first, which the export has done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
