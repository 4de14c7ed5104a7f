"""Outputs of single layers of an ONNX graph, float or compressed, on real feeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from .graph import EXTERNAL_ABOVE, write_model

if TYPE_CHECKING:
    import onnx

    from edgeft.artifact import Signature
    from edgeft.task import Arrays

BATCH = 8


def bind_feeds(signature: Signature, feeds: Arrays | None) -> dict[str, Any]:
    """Canonical feeds by the graph's own input names and dtypes.

    Unsupported where there are no cases, or an input has none.
    """
    if not feeds or not len(next(iter(feeds.values()))):
        raise Unsupported("this form needs calibration cases, and there are none")
    missing = sorted(set(signature.inputs) - set(feeds))
    if missing:
        raise Unsupported(f"the calibration cases have no '{missing[0]}'")
    return {spec.name: feeds[name].astype(spec.dtype, copy=False) for name, spec in signature.inputs.items()}


def fixed_batch(signature: Signature) -> int | None:
    """Cases that every run must have, None where the graph takes any number."""
    first = next((spec.shape[0] for spec in signature.inputs.values() if spec.shape), None)
    return first if isinstance(first, int) else None


def cut_batches(feeds: Mapping[str, Any], size: int, fixed: int | None) -> Iterator[tuple[dict[str, Any], int]]:
    """(feeds of at most `size` cases, how many are real): a graph of fixed batch gets its last case repeated."""
    import numpy as np

    n, step = len(next(iter(feeds.values()))), fixed or size
    for start in range(0, n, step):
        end = min(start + step, n)
        wanted = list(range(start, end)) + [end - 1] * ((fixed or 0) - (end - start))
        yield {name: np.ascontiguousarray(array[wanted]) for name, array in feeds.items()}, end - start


def read_tensors(
    model: onnx.ModelProto, outputs: Mapping[str, str], feeds: Mapping[str, Any], fixed: int | None
) -> Iterator[Mapping[str, Any]]:
    """Layer -> (batch, ...) float32 for each batch. outputs: layer -> its tensor. feeds: input name -> (n, ...).

    Unsupported where the graph has no such tensor or a runtime refuses it.
    """
    made = {name for node in model.graph.node for name in node.output}
    lost = next((layer for layer, tensor in outputs.items() if tensor not in made), None)
    if lost is not None:
        raise Unsupported(f"the compressed graph no longer has the output of layer '{lost}'")
    wanted = sorted(set(outputs.values()))
    with TemporaryDirectory(prefix="edgeft-tensors-") as folder:
        session = open_session(with_outputs(model, wanted), Path(folder))
        for batch, real in cut_batches(feeds, BATCH, fixed):
            values = dict(zip(wanted, session.run(wanted, batch), strict=True))
            yield {layer: values[tensor][:real] for layer, tensor in outputs.items()}


def with_outputs(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """A copy that gives float tensors instead of its own outputs."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for tensor in tensors:
        copy.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    return copy


def open_session(model: onnx.ModelProto, folder: Path) -> Any:
    """The graph in ONNX Runtime on this CPU. Unsupported with the runtime's first line where it refuses."""
    import onnxruntime

    write_model(model, folder, EXTERNAL_ABOVE)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # the arena keeps the largest batch of every operator
    try:
        return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, made in C++
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise Unsupported(f"ONNX Runtime cannot open the graph: {first}") from error


def undo_scales(values: Mapping[str, Any], equalised: Mapping[str, Any]) -> Mapping[str, Any]:
    """Layer -> array with the channels of equalised layers multiplied back, so that they compare with the float graph.

    equalised: layer -> exponents of two by which its channels were divided; channels are axis 1 of images, else last.
    """
    import numpy as np

    found = dict(values)
    for layer in equalised.keys() & found.keys():
        array = found[layer]
        shape = [1] * array.ndim
        shape[1 if array.ndim > 3 else -1] = -1
        found[layer] = array * np.exp2(np.array(equalised[layer])).astype(np.float32).reshape(shape)
    return found
