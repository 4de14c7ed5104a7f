"""What stands in front of a network in its graph: a tokenizer or a decoder of image files, added, taken off, put back.

Its operators are onnxruntime-extensions', which no quantiser knows; so a variant is made of the graph without it.
Everything added is named after its front (`tokenizer/...`, `file/...`), its inputs apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

if TYPE_CHECKING:
    import onnx

DOMAINS = {"tokenizer/": "ai.onnx.contrib", "file/": "com.microsoft.extensions"}
"""How the names of a front begin -> the domain of its operators."""
SHAPE = "made_shape"
"""Constant of a front that says the shape it makes, where that is not (batch, sequence); the batch apart."""
PACKAGE = (
    "the {} in the graph needs onnxruntime-extensions in the app; its Android package 0.13.0 is not aligned to "
    "16 KB pages (microsoft/onnxruntime-extensions#950), which Google Play refuses for apps that target Android 15"
)
PACKAGING = {"tokenizer/": PACKAGE.format("tokenizer"), "file/": PACKAGE.format("image decoder")}


@dataclass(frozen=True)
class Front:
    """What `detach` took off: nodes, their constants, the input that the app gives."""

    prefix: str
    nodes: tuple[onnx.NodeProto, ...]
    constants: tuple[onnx.TensorProto, ...]
    given: onnx.ValueInfoProto

    @property
    def packaging(self) -> str:
        """What the app must know of the package."""
        return PACKAGING[self.prefix]


class Parts:
    """Nodes and constants as they are added; each node is named after its operator and place, or as it is told.

    branch: begins the names inside a branch of an If, which must not be those outside.
    """

    def __init__(self, prefix: str, branch: str = "") -> None:
        self.prefix, self.branch = prefix, branch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """One operator, of the front's own domain unless another is given. called: its name behind the prefix."""
        from onnx import helper

        domain = attributes.pop("domain", DOMAINS[self.prefix])
        name = self.prefix + attributes.pop("called", f"{self.branch}{kind}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, inputs, outputs, name, domain=domain, **attributes))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A standard operator with one output; the output's name."""
        output = f"{self.prefix}{self.branch}made_{len(self.nodes)}"
        self.node(kind, list(inputs), [output], domain="", **attributes)
        return output

    def constant(self, name: str, value: Any) -> str:
        """A tensor of one element, text, truth value or whole number; its full name."""
        from onnx import TensorProto, helper

        kind = {str: TensorProto.STRING, bool: TensorProto.BOOL, int: TensorProto.INT64}[type(value)]
        value = value.encode() if isinstance(value, str) else value
        self.constants.append(helper.make_tensor(self.prefix + name, kind, [1], [value]))
        return self.prefix + name

    def array(self, name: str, value: Any) -> str:
        """A numpy array as a constant; its full name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(value, self.prefix + name))
        return self.prefix + name

    def front(self, given: onnx.ValueInfoProto) -> Front:
        """All of it, behind the app's input."""
        return Front(self.prefix, tuple(self.nodes), tuple(self.constants), given)


def detach(model: onnx.ModelProto) -> Front | None:
    """Take the front off, in place: the graph takes what it made. None where there is none."""
    graph = model.graph
    prefix = next((name for name in DOMAINS if any(node.name.startswith(name) for node in graph.node)), None)
    if prefix is None:
        return None
    nodes, constants, given = _parts_of(model, prefix)
    made = _made(nodes, constants, prefix)
    front = Front(prefix, _copies(nodes), _copies(constants), _copies([given])[0])
    taken = {node.name for node in nodes}
    _keep(graph.node, lambda node: node.name not in taken)
    _keep(graph.initializer, lambda tensor: not tensor.name.startswith(prefix))
    _keep(graph.input, lambda item: item.name != given.name)
    _keep(model.opset_import, lambda entry: entry.domain != DOMAINS[prefix])
    graph.input.extend(made)
    return front


def put_back(model: onnx.ModelProto, front: Front) -> None:
    """What `detach` took off, in place."""
    from onnx import helper

    graph = model.graph
    made = {output for node in front.nodes for output in node.output}
    _keep(graph.input, lambda item: item.name not in made)
    graph.input.append(front.given)
    nodes = [*front.nodes, *_copies(graph.node)]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(front.constants)
    model.opset_import.append(helper.make_opsetid(DOMAINS[front.prefix], 1))


def front_session(model: onnx.ModelProto, prefix: str) -> tuple[Any, list[str]]:
    """The front alone, ready to run, and the names of its outputs. Unsupported without onnxruntime-extensions."""
    import onnxruntime
    from onnx import ModelProto, helper

    from edgeft.runtimes.ort import extensions_library, register_extensions

    if not extensions_library():
        raise Unsupported("this needs onnxruntime-extensions: pip install 'edgeft[extensions]'")
    nodes, constants, given = _parts_of(model, prefix)
    made = _made(nodes, constants, prefix)
    alone = ModelProto()
    alone.CopyFrom(helper.make_model(helper.make_graph(nodes, "front", [given], made, constants)))
    del alone.opset_import[:]
    alone.opset_import.extend(model.opset_import)
    alone.ir_version = model.ir_version
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    register_extensions(options)
    session = onnxruntime.InferenceSession(alone.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, [item.name for item in made]


def _parts_of(model: onnx.ModelProto, prefix: str) -> tuple[list[Any], list[Any], Any]:
    graph = model.graph
    nodes = [node for node in graph.node if node.name.startswith(prefix)]
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name.startswith(prefix)]
    return nodes, constants, next(item for item in graph.input if item.name in read)


def _made(nodes: list[Any], constants: list[Any], prefix: str) -> list[Any]:
    """What the network reads of the front: (batch, sequence) whole numbers, or uint8 of the shape the front states."""
    from onnx import TensorProto, helper, numpy_helper

    seams = [output for node in nodes for output in node.output if output and not output.startswith(prefix)]
    kinds = {node.output[0]: node.attribute[0].i for node in nodes if node.op_type == "Cast"}
    stated = next((tensor for tensor in constants if tensor.name == prefix + SHAPE), None)
    shape = ["batch", "sequence"]
    if stated is not None:
        shape = ["batch", *numpy_helper.to_array(stated)[1:].tolist()]
    return [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.INT64), shape) for name in seams]


def _keep(items: Any, wanted: Any) -> None:
    kept = _copies(item for item in items if wanted(item))
    del items[:]
    items.extend(kept)


def _copies(items: Any) -> tuple[Any, ...]:
    """Messages of their own: what a repeated field holds dies with it."""
    made = []
    for item in items:
        copy = type(item)()
        copy.CopyFrom(item)
        made.append(copy)
    return tuple(made)
