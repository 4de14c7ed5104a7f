"""Small networks with one planted outlier channel, on which plain 8-bit ranges are bad, and real-shaped feeds.

Float answers do not know of the outlier: a layer's channel is `FACTOR` times as large, and the next layer's weights for
it as much smaller. 8-bit ranges that cover it leave few steps to all the other channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeft.artifact import Artifact

FACTOR = 256.0
CHANNEL = 3
CLASSES = 3


def save_conv(folder: Path, factor: float = FACTOR, seed: int = 0) -> Artifact:
    """ONNX file: pixel_values (batch, 3, 16, 16) -> three convolutions with ReLU, pooling, Gemm -> logits (batch, 3).

    The outlier is channel `CHANNEL` of conv_1's output.
    """
    draw = np.random.default_rng(seed)
    weights = {
        "conv_0.weight": _normal(draw, 16, 3, 3, 3), "conv_0.bias": _normal(draw, 16),
        "conv_1.weight": _normal(draw, 16, 16, 3, 3), "conv_1.bias": _normal(draw, 16),
        "conv_2.weight": _normal(draw, 16, 16, 3, 3), "conv_2.bias": _normal(draw, 16),
        "head.weight": _normal(draw, CLASSES, 16), "head.bias": np.zeros(CLASSES, np.float32),
    }  # fmt: skip
    weights["conv_1.weight"][CHANNEL] *= factor
    weights["conv_1.bias"][CHANNEL] *= factor
    weights["conv_2.weight"][:, CHANNEL] /= factor
    nodes, tensor = [], "pixel_values"
    for index in range(3):
        name = f"conv_{index}"
        nodes.append(
            helper.make_node(
                "Conv", [tensor, f"{name}.weight", f"{name}.bias"], [f"{name}_out"], name, pads=[1, 1, 1, 1]
            )
        )
        nodes.append(helper.make_node("Relu", [f"{name}_out"], [f"{name}_relu"], f"relu_{index}"))
        tensor = f"{name}_relu"
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head", transB=1))
    return _save(folder, nodes, weights, [("pixel_values", TensorProto.FLOAT, ["batch", 3, 16, 16])])


def image_feeds(n: int, seed: int = 1) -> dict[str, Any]:
    """Smooth random images, float32 (n, 3, 16, 16), unlike each other in brightness."""
    draw = np.random.default_rng(seed)
    coarse = draw.normal(size=(n, 3, 4, 4)).astype(np.float32)
    images = coarse.repeat(4, axis=2).repeat(4, axis=3) + 0.1 * draw.normal(size=(n, 3, 16, 16)).astype(np.float32)
    return {"pixel_values": (images * draw.uniform(0.5, 1.5, (n, 1, 1, 1))).astype(np.float32)}


def save_mlp(folder: Path, factor: float = FACTOR, seed: int = 0) -> Artifact:
    """ONNX file: features (batch, 32) -> MatMul, Add, ReLU twice -> Gemm -> logits (batch, 3).

    The outlier is channel `CHANNEL` of layer_0's output.
    """
    draw = np.random.default_rng(seed)
    weights = {
        "layer_0.weight": _normal(draw, 32, 64), "layer_0.bias": _normal(draw, 64),
        "layer_1.weight": _normal(draw, 64, 64), "layer_1.bias": _normal(draw, 64),
        "head.weight": _normal(draw, 64, CLASSES), "head.bias": np.zeros(CLASSES, np.float32),
    }  # fmt: skip
    weights["layer_0.weight"][:, CHANNEL] *= factor
    weights["layer_0.bias"][CHANNEL] *= factor
    weights["layer_1.weight"][CHANNEL] /= factor
    nodes, tensor = [], "features"
    for index in range(2):
        name = f"layer_{index}"
        nodes.append(helper.make_node("MatMul", [tensor, f"{name}.weight"], [f"{name}_product"], name))
        nodes.append(helper.make_node("Add", [f"{name}_product", f"{name}.bias"], [f"{name}_out"], f"add_{index}"))
        nodes.append(helper.make_node("Relu", [f"{name}_out"], [f"{name}_relu"], f"relu_{index}"))
        tensor = f"{name}_relu"
    nodes.append(helper.make_node("Gemm", [tensor, "head.weight", "head.bias"], ["logits"], "head"))
    return _save(folder, nodes, weights, [("features", TensorProto.FLOAT, ["batch", 32])])


def feature_feeds(n: int, seed: int = 1) -> dict[str, Any]:
    """float32 (n, 32), standard normal."""
    return {"features": np.random.default_rng(seed).normal(size=(n, 32)).astype(np.float32)}


def _normal(draw: np.random.Generator, *shape: int) -> Any:
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
    return (draw.normal(size=shape) * np.sqrt(2 / fan)).astype(np.float32)


def _save(
    folder: Path, nodes: list[Any], weights: dict[str, Any], inputs: list[tuple[str, int, list[Any]]]
) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes, "outlier",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    return Artifact("onnx", folder, "0" * 64, {})


def save_residual(folder: Path, seed: int = 0) -> Artifact:
    """ONNX file of a synthetic residual net, pixel_values (batch, 3, 16, 16) -> logits (batch, 3): `first` gives the
    stream, the branches `left` and `right` are added to it in turn, pooling, `head`."""
    draw = np.random.default_rng(seed)
    weights = {
        f"{name}.weight": _normal(draw, 16, read, 3, 3) for name, read in (("first", 3), ("left", 16), ("right", 16))
    }
    weights["head.weight"], weights["head.bias"] = _normal(draw, CLASSES, 16), np.zeros(CLASSES, np.float32)
    nodes, stream = (
        [helper.make_node("Conv", ["pixel_values", "first.weight"], ["s0"], "first", pads=[1, 1, 1, 1])],
        "s0",
    )
    for index, name in enumerate(("left", "right"), start=1):
        nodes += [
            helper.make_node("Conv", [stream, f"{name}.weight"], [f"{name}_out"], name, pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"{name}_out"], [f"{name}_relu"], f"relu_{name}"),
            helper.make_node("Add", [stream, f"{name}_relu"], [f"s{index}"], f"add_{name}"),
        ]
        stream = f"s{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [stream], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head", transB=1))
    return _save(folder, nodes, weights, [("pixel_values", TensorProto.FLOAT, ["batch", 3, 16, 16])])
