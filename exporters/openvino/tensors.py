"""Outputs of single layers of an OpenVINO model, float or compressed, on real feeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeft.exporter import Layer, Unsupported, label_weights
from edgeft.runtimes.ov import import_openvino, port_name, short, stated_precision

from .graph import behind, has_weights, quiet


def list_layers(model: Any) -> tuple[Layer, ...]:
    """Layers with constant weights, in execution order; a layer's output goes by its own name."""
    found = []
    for node in model.get_ordered_ops():
        if has_weights(node):
            name = node.get_friendly_name()
            count, weights = _weights(node)
            found.append(Layer(name, node.get_type_name(), count, name, label_weights(weights)))
    return tuple(found)


def _weights(node: Any) -> tuple[int, str]:
    """(elements, name) of a layer's constant side."""
    from math import prod

    for value in node.input_values():
        constant = behind(value.get_node())
        if constant.get_type_name() == "Constant" and value.get_partial_shape().is_static:
            return prod(int(size) for size in value.get_shape()), constant.get_friendly_name()
    return 0, ""


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
