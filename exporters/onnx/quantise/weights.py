"""Weights alone in 8 or 4 bits (MatMulNBits) by ONNX Runtime's quantisers: rounding and HQQ."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from ..graph import canonicalise
from .int8 import quiet
from .options import Compression

if TYPE_CHECKING:
    import onnx

ACCURACY_LEVEL = 4
"""Activations in 8 bits inside the kernel; without it ORT multiplies in float, 2.3 times slower (decoding)."""


def quantise_weights(model: onnx.ModelProto, nodes: Sequence[str], options: Compression) -> onnx.ModelProto:
    """Linear layers as MatMulNBits with a scale per block of inputs. The model is changed and returned.

    rtn rounds. hqq fits zero points to the weights (Badri & Shaji 2023). Unsupported where the quantiser stops.
    """
    split_gemm(model.graph, nodes)
    canonicalise(model)
    made = _rounded(model, nodes, options)
    canonicalise(made)
    return made


def _rounded(model: onnx.ModelProto, nodes: Sequence[str], options: Compression) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        HQQWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    config: Any
    if options.algorithm == "hqq":
        config = HQQWeightOnlyQuantConfig(block_size=options.block, bits=options.bits, op_types_to_quantize=("MatMul",))
    else:
        config = DefaultWeightOnlyQuantConfig(
            block_size=options.block, bits=options.bits, accuracy_level=ACCURACY_LEVEL, op_types_to_quantize=("MatMul",)
        )
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HQQ reads the weights through torch, which warns that it must not write them
        try:
            quantiser = MatMulNBitsQuantizer(
                model, options.bits, options.block, accuracy_level=ACCURACY_LEVEL, nodes_to_include=list(nodes),
                algo_config=config,
            )  # fmt: skip
            quantiser.process()
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
            raise Unsupported(f"ONNX Runtime's weight quantiser cannot take this model: {_first(error)}") from error
    made: onnx.ModelProto = quantiser.model.model
    return _with_accuracy_level(made)


def _with_accuracy_level(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every MatMulNBits states the level: the HQQ quantiser leaves it out."""
    import onnx

    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and not any(item.name == "accuracy_level" for item in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("accuracy_level", ACCURACY_LEVEL))
    return model


def split_gemm(graph: onnx.GraphProto, nodes: Sequence[str]) -> None:
    """Gemm(x, W, b) of these names becomes MatMul, under the same name, and Add: MatMulNBits stands for MatMul."""
    import numpy as np
    import onnx

    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Gemm" and node.name in set(nodes)]:
        place = next(index for index, other in enumerate(graph.node) if other.name == node.name)
        result, bias = node.output[0], node.input[2] if len(node.input) > 2 else ""
        weight = node.input[1]
        if any(attribute.i for attribute in node.attribute if attribute.name == "transB"):
            turned = np.ascontiguousarray(onnx.numpy_helper.to_array(weights[weight]).T)
            weight = f"{weight}_{node.name}_transposed"
            graph.initializer.append(onnx.numpy_helper.from_array(turned, weight))
        product = f"{result}_product" if bias else result
        fresh = [onnx.helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name)]
        if bias:
            fresh.append(onnx.helper.make_node("Add", [product, bias], [result], name=f"{node.name}_bias"))
        del graph.node[place]
        for offset, item in enumerate(fresh):
            graph.node.insert(place + offset, item)
    used = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
