"""Outputs of single layers of a .tflite file, float or compressed, on real feeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from . import file as files

if TYPE_CHECKING:
    from edgeft.task import Arrays


def read_tensors(path: Path, outputs: Mapping[str, str], feeds: Arrays) -> Iterator[Mapping[str, Any]]:
    """Layer -> (batch, ...) float32 for each batch of the file's own size. outputs: layer -> name of its tensor.

    The tensors are made outputs of the graph, so that the same delegate computes them as when it ships. Unsupported
    where a tensor is gone or the runtime refuses the file.
    """
    from ..onnx.tensors import cut_batches

    model = files.read_tflite(path)
    _bring_inside(model, path)
    graph = model.subgraphs[0]
    signature = files.signature_of(model)
    places = {(tensor.name or b"").decode(): index for index, tensor in enumerate(graph.tensors)}
    lost = next((layer for layer, tensor in outputs.items() if tensor not in places), None)
    if lost is not None:
        raise Unsupported(f"the artefact no longer has the output of layer '{lost}'")
    own = [int(index) for index in graph.outputs]
    wanted = {layer: places[tensor] for layer, tensor in outputs.items()}
    graph.outputs = own + sorted(set(wanted.values()) - set(own))
    batch = next((int(spec.shape[0]) for spec in signature.inputs.values() if spec.shape), 1)
    bound = {name: feeds[name].astype(spec.dtype) for name, spec in signature.inputs.items()}
    with TemporaryDirectory(prefix="edgeft-litert-") as folder:
        files.write_tflite(model, Path(folder) / files.TFLITE)
        interpreter = _open(Path(folder) / files.TFLITE)
        order = [interpreter.get_input_details()[index]["index"] for index in range(len(graph.inputs))]
        names = [_input_name(signature.inputs, graph, index) for index in order]
        details = {int(about["index"]): about for about in interpreter.get_output_details()}
        for cases, real in cut_batches(bound, batch, batch):
            for place, name in zip(order, names, strict=True):
                interpreter.set_tensor(place, cases[name])
            interpreter.invoke()
            yield {
                layer: _float(interpreter.get_tensor(place), details[place])[:real] for layer, place in wanted.items()
            }


def _bring_inside(model: Any, path: Path) -> None:
    """Buffers behind the flatbuffer, where quantised files keep large ones, become part of it: their offsets move."""
    import numpy as np

    raw = path.read_bytes()
    for buffer in model.buffers:
        if buffer.size and buffer.offset > 1:
            buffer.data = np.frombuffer(raw, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


def _input_name(inputs: Mapping[str, Any], graph: Any, place: int) -> str:
    name = str((graph.tensors[place].name or b"").decode())
    if name not in inputs:
        raise Unsupported(f"the artefact's input '{name}' is not in its signature")
    return name


def _open(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise Unsupported(f"LiteRT cannot give these layers' outputs: {str(error).splitlines()[0][:300]}") from error
    return interpreter


def _float(values: Any, about: Mapping[str, Any]) -> Any:
    """float32 of a tensor that may be quantised with one scale."""
    import numpy as np

    scale, zero = about["quantization"]
    if values.dtype == np.float32 or not scale:
        return values.astype(np.float32)
    return ((values.astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)


def layer_outputs(model: Any, layers: Sequence[str]) -> dict[str, str]:
    """Layer -> name of its output tensor. Unsupported for a layer that is not there."""
    known = {layer.name: layer.scope for layer in files.list_layers(model)}
    unknown = next((name for name in layers if name not in known), None)
    if unknown is not None:
        raise Unsupported(f"no layer is called '{unknown}'")
    return {name: known[name] for name in layers}
