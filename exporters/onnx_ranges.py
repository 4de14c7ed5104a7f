"""Activation ranges over real inputs in constant memory: the graph itself reduces each tensor to two numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from edgeft.exporter import Unsupported

from .onnx_graph import EXTERNAL_ABOVE, write_model

if TYPE_CHECKING:
    import onnx

    from edgeft.task import Arrays

Method = Literal["minmax", "average"]
BATCH = 8


def collect_ranges(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    feeds: Arrays,
    method: Method = "average",
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Mapping[str, tuple[float, float]]:
    """tensor -> (lowest, highest) over feeds (runtime input name -> (n, ...)).

    minmax: the extremes of all cases. average: the mean of the extremes of batches of 8, which a single outlier moves
    little (MiniLM, 120 cases: mean logit error 0.31 against 0.33). Only two scalars per tensor leave the runtime, so
    memory does not grow with n (ORT's percentile and entropy calibrators keep every activation, ORT#10503). Every case
    counts: none is dropped at the end of a stride.
    """
    import numpy as np

    n = len(next(iter(feeds.values())))
    if n == 0:
        raise Unsupported("there are no calibration cases")
    lows, highs = [], []
    with TemporaryDirectory(prefix="edgeft-ranges-") as folder:
        session = _session(with_extremes(model, tensors), Path(folder))
        names = [f"{tensor}_{end}" for end in ("lowest", "highest") for tensor in tensors]
        for start in range(0, n, BATCH):
            batch = {name: np.ascontiguousarray(array[start : start + BATCH]) for name, array in feeds.items()}
            values = np.array([float(value) for value in session.run(names, batch)], dtype=np.float64)
            lows.append(values[: len(tensors)])
            highs.append(values[len(tensors) :])
            progress(min(start + BATCH, n), n)
    low, high = np.array(lows), np.array(highs)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        bad = tensors[int(np.argwhere(~(np.isfinite(low) & np.isfinite(high)))[0][1])]
        raise Unsupported(f"activation '{bad}' is not finite on the calibration cases")
    lowest, highest = (low.min(0), high.max(0)) if method == "minmax" else (low.mean(0), high.mean(0))
    return {name: (float(lowest[i]), float(highest[i])) for i, name in enumerate(tensors)}


def with_extremes(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy whose outputs are NAME_lowest and NAME_highest, float scalars, of each tensor."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for tensor in tensors:
        for operator, end in (("ReduceMin", "lowest"), ("ReduceMax", "highest")):
            name = f"{tensor}_{end}"
            copy.graph.node.append(onnx.helper.make_node(operator, [tensor], [name], name=name, keepdims=0))
            copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
    return copy


def _session(model: onnx.ModelProto, folder: Path) -> Any:
    import onnxruntime

    write_model(model, folder, EXTERNAL_ABOVE)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
