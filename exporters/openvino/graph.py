"""OpenVINO models: read, fix shapes, write as canonical bytes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeft.artifact import TensorSpec
from edgeft.exporter import Unsupported
from edgeft.runtimes.ov import PRECISION_INFO, import_openvino, port_name, short

LINEAR = ("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
"""Operators with weights that quantisation makes faster."""
MISSING_OPERATOR = re.compile(r"[Nn]o conversion rule found for operations: ([\w.]+)")


def read_onnx(path: Path) -> Any:
    """The model of an .onnx file. Unsupported with the first operator's name where OpenVINO cannot translate one."""
    with quiet():
        try:
            return import_openvino().Core().read_model(str(path))
        except RuntimeError as error:
            found = MISSING_OPERATOR.search(" ".join(str(error).split()))
            op = found[1].rpartition(".")[2] if found else ""
            raise Unsupported(f"OpenVINO cannot read this model: {short(error)}", op=op) from error


def read_xml(path: Path) -> Any:
    """The model of an .xml file. Unsupported where it is none."""
    with quiet():
        try:
            return import_openvino().Core().read_model(str(path))
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO cannot read this artefact: {short(error)}") from error


def fix_shapes(model: Any, serve: Mapping[str, int]) -> None:
    """Open dimensions get their serve sizes: the first the batch, the second of two the length, of four the image's.

    What serve does not state stays open. Unsupported where the graph contradicts the sizes.
    """
    shapes = {}
    for index, port in enumerate(model.inputs):
        shape = port.get_partial_shape()
        if shape.rank.is_dynamic:
            raise Unsupported(f"input '{port_name(port)}' has no fixed number of dimensions")
        names = ("batch", "length") if len(shape) == 2 else ("batch", "channels", "height", "width")
        wanted = [serve.get(names[axis], -1) if axis < len(names) else -1 for axis in range(len(shape))]
        shapes[index] = [dim.get_length() if dim.is_static else size for dim, size in zip(shape, wanted, strict=True)]
    with quiet():
        try:
            model.reshape(shapes)
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO cannot give this model its serve shape: {short(error)}") from error


def save(model: Any, path: Path, precision: str) -> None:
    """model.xml and model.bin; weights in float16 for a half precision, which is stated in the file's own metadata.

    The same model gives the same bytes: OpenVINO writes no times, and no paths where there are none in layer names.
    """
    half = precision != "f32"
    name_nodes(model)
    if half:
        model.set_rt_info(precision, PRECISION_INFO)
    with quiet():
        import_openvino().save_model(model, str(path), compress_to_fp16=half)


def name_nodes(model: Any) -> None:
    """Nodes that OpenVINO named after a counter of its process get a name from their place in the model instead."""
    for index, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{index}")


def layer_names(model: Any) -> list[str]:
    """Layers with constant weights, in execution order: what quantisation changes, and what can be kept in float."""
    return [node.get_friendly_name() for node in model.get_ordered_ops() if has_weights(node)]


def has_weights(node: Any) -> bool:
    """True for a linear layer or a convolution of which one side is constant."""
    if node.get_type_name() not in LINEAR:
        return False
    return any(behind(value.get_node()).get_type_name() == "Constant" for value in node.input_values())


def behind(node: Any) -> Any:
    """The node itself, or what is behind conversions and reshapes, as weights are."""
    while node.get_type_name() in ("Convert", "Reshape", "Transpose", "FakeQuantize") and node.get_input_size():
        node = node.input_value(0).get_node()
    return node


def port_spec(name: str, port: Any) -> TensorSpec:
    """Shape and dtype of a port; open dimensions are called batch and dim_1, dim_2 ..."""
    import numpy as np

    shape = port.get_partial_shape()
    extents = tuple(
        dim.get_length() if dim.is_static else ("batch" if index == 0 else f"dim_{index}")
        for index, dim in enumerate(shape)
    )
    return TensorSpec(name, str(np.dtype(port.get_element_type().to_dtype())), extents)


@contextmanager
def quiet() -> Iterator[None]:
    """OpenVINO and NNCF warn of their own dependencies; nothing a user could act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
