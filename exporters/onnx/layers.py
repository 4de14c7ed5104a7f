"""Layers of a float ONNX graph that compression may touch: which there are, which are chosen, and what they give."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from edgeft.exporter import Layer, Unsupported, label_weights

from .graph import every_node
from .quantise.options import Compression
from .rewrite import Uses

if TYPE_CHECKING:
    import onnx

LINEAR = ("MatMul", "Gemm")
CONVOLUTION = ("Conv", "ConvTranspose")
ALREADY = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
    "QGemm",
    "QAttention",
    "MatMulNBits",
)


def linear_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """MatMul and plain Gemm nodes with a constant float32 matrix on the right, in graph order."""
    uses = Uses(graph)
    return [node for node in graph.node if _is_linear(node, uses)]


def layer_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The linear nodes and convolutions with constant float32 weights, in graph order, which is that of execution."""
    uses = Uses(graph)
    return [node for node in graph.node if _is_linear(node, uses) or _is_convolution(node, uses)]


def _is_linear(node: onnx.NodeProto, uses: Uses) -> bool:
    import onnx

    weight = uses.constant.get(node.input[1]) if node.op_type in LINEAR else None
    if weight is None or len(weight.dims) != 2 or weight.data_type != onnx.TensorProto.FLOAT:
        return False
    if node.input[0] in uses.constant:
        return False
    plain = all(attribute.f == 1 for attribute in node.attribute if attribute.name in ("alpha", "beta"))
    return plain and not any(attribute.i for attribute in node.attribute if attribute.name == "transA")


def _is_convolution(node: onnx.NodeProto, uses: Uses) -> bool:
    import onnx

    weight = uses.constant.get(node.input[1]) if node.op_type in CONVOLUTION else None
    return weight is not None and weight.data_type == onnx.TensorProto.FLOAT and node.input[0] not in uses.constant


def list_layers(graph: onnx.GraphProto) -> tuple[Layer, ...]:
    """A layer's name and output are its node's; a ReLU after it is not part of it."""
    uses = Uses(graph)
    return tuple(
        Layer(
            node.name,
            node.op_type,
            sum(_elements(uses, name) for name in node.input[1:]),
            node.output[0],
            label_weights(node.input[1]),
        )
        for node in layer_nodes(graph)
    )


def find_outputs(layers: Sequence[Layer], graph: onnx.GraphProto) -> dict[str, str]:
    """Layer -> the tensor of a compressed graph that holds its output before anything rounds it.

    Quantisers fold a ReLU into the scale after a convolution, whose output then takes the ReLU's name. Layers that left
    no trace are left out.
    """
    made = {name for node in graph.node for name in node.output}
    nodes = {node.name: node for node in graph.node}
    found = {}
    for layer in layers:
        if layer.output in made:
            found[layer.name] = layer.output
        elif layer.name in nodes:
            found[layer.name] = nodes[layer.name].output[0]
    return found


def _elements(uses: Uses, name: str) -> int:
    from math import prod

    tensor = uses.constant.get(name)
    return 0 if tensor is None else prod(tensor.dims)


def refuse_quantised(graph: onnx.GraphProto) -> None:
    """Unsupported, with the operator, where a graph holds quantised layers already."""
    done = next((node.op_type for node in every_node(graph) if node.op_type in ALREADY), None)
    if done:
        raise Unsupported("the model is already quantised", op=done)


def choose_nodes(graph: onnx.GraphProto, options: Compression, keep_float: Collection[str]) -> list[str]:
    """Names of the layers to quantise. Unsupported where the graph has none or a layer to keep is unknown.

    It may be empty where `keep_float` names all of them.
    """
    refuse_quantised(graph)
    kinds = layer_kinds(graph, options)
    names = [node.name for node in layer_nodes(graph) if node.op_type in kinds]
    if not names:
        raise Unsupported("no layer with constant float32 weights that this variant takes", op="MatMul")
    unknown = sorted(set(keep_float) - {node.name for node in graph.node})
    if unknown:
        raise Unsupported(f"no layer is called '{unknown[0]}'")
    if options.head == "float" and len(names) > 1 and not answers_tokens(graph):
        names = names[:-1]
    return [name for name in names if name not in set(keep_float)]


def answers_tokens(graph: onnx.GraphProto) -> bool:
    """Whether the graph answers each token by a row of logits, (batch, length, classes): its head then is as large as
    the vocabulary, a fifth of a small language model, and no few rows that may stay in float."""
    return len(graph.output) == 1 and len(graph.output[0].type.tensor_type.shape.dim) == 3


def layer_kinds(graph: onnx.GraphProto, options: Compression) -> tuple[str, ...]:
    """Operator types of the layers that a variant quantises.

    Dynamic forms and weights alone take linear layers (ORT#6732; MatMulNBits is no convolution). Transposed
    convolutions have no 8-bit kernel on ONNX Runtime's CPU: on a MONAI UNet 24 more scale operators for 0.8 of 2.5 MB,
    so only `all` takes them.
    """
    if options.mode not in ("static", "nncf", "qnn"):
        return LINEAR
    operators = "all" if options.mode == "qnn" else resolve_operators(graph, options.operators)
    return {"linear": LINEAR, "conv": (*LINEAR, "Conv"), "all": (*LINEAR, *CONVOLUTION)}[operators]


def resolve_operators(graph: onnx.GraphProto, operators: str) -> str:
    """`auto` as the graph decides it: conv where a quarter of its layers are convolutions, else linear.

    A vision transformer has one convolution, which cuts its patches; its linear layers want float between them.
    """
    if operators != "auto":
        return operators
    nodes = layer_nodes(graph)
    convolutions = sum(node.op_type in CONVOLUTION for node in nodes)
    return "conv" if 4 * convolutions >= max(1, len(nodes)) else "linear"
