"""Operations and bytes of the layers with weights of an ONNX graph, at one shape. Pure walk, nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

WEIGHT_AT = {
    "MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1, "MatMulInteger": 1, "ConvInteger": 1, "QLinearMatMul": 3,
    "QLinearConv": 3, "DynamicQuantizeMatMul": 1, "MatMulIntegerToFloat": 1, "FusedMatMul": 1, "FusedGemm": 1,
    "FusedConv": 1, "QGemm": 3, "MatMulNBits": 1,
}  # fmt: skip
"""Operator -> index of its weight input."""
INTEGER = frozenset(
    {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
    | {"QGemm"}
)
PASSES = frozenset({"DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze"})
"""Operators between a stored weight and its layer that leave it a weight."""
LONGEST_PATH = 16
PASSES_AT_MOST = 8


@dataclass(frozen=True)
class LayerCost:
    """One linear layer or convolution. operations: a multiplication and an addition count as two. weights: stored
    bytes. elements: numbers in and out. dtype: of the arithmetic, `float32` or `int8`."""

    name: str
    op: str
    operations: int
    weights: int
    elements: int
    dtype: str


def count_layers(path: Path, shapes: Mapping[str, Sequence[int]]) -> list[LayerCost]:
    """Every linear layer and convolution with stored weights of an .onnx file. shapes: input name -> its full shape.

    Products of two activations (attention) are left out: the floor stays a floor. ValueError where the file is no ONNX
    graph or a shape cannot be inferred; ImportError without the onnx package.
    """
    graph = _Graph(path, shapes)
    return [graph.cost(node, WEIGHT_AT[node.op_type]) for node in graph.layers()]


class _Graph:
    """Producers, stored tensors and inferred shapes of one graph."""

    def __init__(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
        try:
            graph = _infer(path, shapes)
        except ImportError:
            raise
        except Exception as error:
            raise ValueError(f"{path.name} cannot be read as an ONNX graph: {type(error).__name__}") from error
        self.nodes = graph.node
        self.stored = {item.name: (tuple(item.dims), int(item.data_type)) for item in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                tensor = node.attribute[0].t
                self.stored[node.output[0]] = (tuple(tensor.dims), int(tensor.data_type))
        self.made_by = {name: node for node in graph.node for name in node.output}
        self.shapes = _shapes(graph)

    def layers(self) -> list[Any]:
        """Nodes whose weight is stored in the file."""
        known = [node for node in self.nodes if node.op_type in WEIGHT_AT]
        return [node for node in known if self._stored(node.input[WEIGHT_AT[node.op_type]]) is not None]

    def cost(self, node: Any, at: int) -> LayerCost:
        """What one layer costs. ValueError for an unknown shape."""
        source = self._stored(node.input[at])
        dims, kind, dequantised = source if source is not None else ((), 1, False)
        given, made = self._shape(node.input[0], node), self._shape(node.output[0], node)
        attributes = {item.name: item for item in node.attribute}
        if node.op_type == "MatMulNBits":
            operations = 2 * prod(made) * int(attributes["K"].i)
        elif node.op_type == "ConvTranspose":
            operations = 2 * prod(given) * prod(dims[1:])
        elif "Conv" in node.op_type:
            operations = 2 * prod(made) * prod(dims[1:])
        elif "Gemm" in node.op_type:
            turned = "transA" in attributes and attributes["transA"].i
            operations = 2 * prod(made) * given[0 if turned else -1]
        else:
            operations = 2 * prod(made) * given[-1]
        quantised_input = dequantised and self._dequantised(node.input[0])
        dtype = "int8" if node.op_type in INTEGER or quantised_input else "float32"
        name = node.name or node.output[0]
        return LayerCost(
            name, node.op_type, operations, int(prod(dims) * _bytes(kind)), prod(given) + prod(made), dtype
        )

    def _stored(self, name: str) -> tuple[tuple[int, ...], int, bool] | None:
        """(shape, ONNX type, whether it is dequantised on the way) of the tensor behind a layer's weight."""
        dequantised = False
        for _ in range(LONGEST_PATH):
            if name in self.stored:
                return (*self.stored[name], dequantised)
            node = self.made_by.get(name)
            if node is None or node.op_type not in PASSES:
                return None
            dequantised = dequantised or node.op_type == "DequantizeLinear"
            name = node.input[0]
        return None

    def _dequantised(self, name: str) -> bool:
        node = self.made_by.get(name)
        return node is not None and node.op_type == "DequantizeLinear"

    def _shape(self, name: str, node: Any) -> tuple[int, ...]:
        shape = self.shapes.get(name) or (self.stored[name][0] if name in self.stored else ())
        if not shape or any(extent <= 0 for extent in shape):
            raise ValueError(f"the shape of '{name}' at {node.op_type} '{node.name}' cannot be inferred")
        return shape


def _infer(path: Path, shapes: Mapping[str, Sequence[int]]) -> Any:
    """The graph at these input shapes. Shape nodes become constants as they get known, which lets the next pass see
    through slices and reshapes that depend on them."""
    import numpy as np
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for item in model.graph.input:
        for dim, extent in zip(item.type.tensor_type.shape.dim, shapes.get(item.name, ()), strict=False):
            dim.dim_value = int(extent)
    for _ in range(PASSES_AT_MOST):
        for item in model.graph.output:
            item.type.tensor_type.ClearField("shape")
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known, folded = _shapes(model.graph), []
        for node in model.graph.node:
            shape = known.get(node.input[0], ()) if node.op_type == "Shape" else ()
            if shape and all(extent > 0 for extent in shape):
                part = {item.name: int(item.i) for item in node.attribute}
                value = np.array(shape[part.get("start", 0) : part.get("end", len(shape))], np.int64)
                model.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
                folded.append(node)
        if not folded:
            break
        for node in folded:
            model.graph.node.remove(node)
    return model.graph


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape, 0 for an unknown extent."""
    return {
        item.name: tuple(int(dim.dim_value) for dim in item.type.tensor_type.shape.dim)
        for item in [*graph.value_info, *graph.input, *graph.output]
        if item.type.tensor_type.HasField("shape")
    }


def _bytes(kind: int) -> float:
    """Bytes of one number of an ONNX element type; half for four bits."""
    import onnx

    if kind in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return 0.5
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
