"""Outputs of single layers of an OpenVINO model, float or compressed, on real feeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeft.exporter import Layer, Unsupported
from edgeft.runtimes.ov import import_openvino, port_name, short, stated_precision

from .graph import has_weights, quiet


def list_layers(model: Any) -> tuple[Layer, ...]:
    """Layers with constant weights, in execution order; a layer's output goes by its own name."""
    found = []
    for node in model.get_ordered_ops():
        if has_weights(node):
            name = node.get_friendly_name()
            found.append(Layer(name, node.get_type_name(), _weights(node), name))
    return tuple(found)


def _weights(node: Any) -> int:
    from math import prod

    constant = next(
        (value for value in node.input_values() if value.get_partial_shape().is_static and _is_constant(value)), None
    )
    return 0 if constant is None else prod(int(size) for size in constant.get_shape())


def _is_constant(value: Any) -> bool:
    node = value.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Transpose", "FakeQuantize") and node.get_input_size():
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def read_tensors(
    model: Any, layers: Sequence[str], feeds: Mapping[str, Any], fixed: int
) -> Iterator[Mapping[str, Any]]:
    """Layer -> (batch, ...) float32 for each batch of `fixed` cases; feeds: input name -> (n, ...).

    The model is changed. Unsupported where it has no such layer or does not compile.
    """
    import numpy as np

    from ..onnx.tensors import cut_batches

    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    lost = next((name for name in layers if name not in nodes), None)
    if lost is not None:
        raise Unsupported(f"no layer is called '{lost}'")
    own = len(model.outputs)
    wanted = list(dict.fromkeys(layers))
    with quiet():
        try:
            model.add_outputs([nodes[name].output(0) for name in wanted])
            settings = {"INFERENCE_PRECISION_HINT": stated_precision(model)}
            compiled = import_openvino().Core().compile_model(model, "CPU", settings)
        except (RuntimeError, ValueError) as error:
            raise Unsupported(f"OpenVINO cannot give these layers' outputs: {short(error)}") from error
    places = {name: index for index, name in enumerate(wanted, own)}
    request = compiled.create_infer_request()
    order = [port_name(port) for port in compiled.inputs]
    for batch, real in cut_batches(feeds, fixed, fixed):
        values = request.infer([batch[name] for name in order])
        yield {name: np.array(values[place][:real], dtype=np.float32) for name, place in places.items()}
