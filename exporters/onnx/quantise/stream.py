"""Activations of a graph over real cases, a few cases at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from ..tensors import cut_batches, open_session, with_outputs

if TYPE_CHECKING:
    import onnx

GROUP = 8
"""Cases that are run at once, and whose extremes are averaged as one (`average` ranges)."""
IN_FLIGHT = 128 << 20
"""Bytes of activations fetched from the runtime at once."""


def stream_tensors(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    feeds: Mapping[str, Any],
    fixed: int | None = None,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Iterator[tuple[str, Any, int, int]]:
    """(tensor, its float32 values, first case, last case + 1) over all cases, the tensors of some cases in turn.

    feeds: runtime input name -> (n, ...). fixed: the batch the graph insists on. Groups of 8 cases are cut further
    where their activations exceed `IN_FLIGHT` bytes, and the graph is run again for more tensors where those of one
    case do. Unsupported where there are no cases.
    """
    n = len(next(iter(feeds.values()), ()))
    if n == 0:
        raise Unsupported("there are no calibration cases")
    with TemporaryDirectory(prefix="edgeft-statistics-") as folder:
        session = open_session(with_outputs(model, list(tensors)), Path(folder))
        groups: list[list[str]] = []
        size = 1
        done = 0
        while done < n:
            stop = min(done + size, n, (done // GROUP + 1) * GROUP) if fixed is None else min(done + fixed, n)
            part = {name: array[done:stop] for name, array in feeds.items()}
            (batch, real), *_ = cut_batches(part, stop - done, fixed)
            bytes_of: dict[str, int] = {}
            for group in groups or [[name] for name in tensors]:  # the first case shows how large they are
                for name, values in zip(group, session.run(group, batch), strict=True):
                    rows = values[:real] if fixed and values.ndim and values.shape[0] == fixed else values
                    bytes_of[name] = rows.nbytes
                    yield name, rows, done, stop
            if not groups:
                groups, size = plan_groups(bytes_of)
            done = stop
            progress(done, n)


def plan_groups(bytes_of: Mapping[str, int]) -> tuple[list[list[str]], int]:
    """(groups of tensors to fetch in one run, cases in one run) such that at most `IN_FLIGHT` bytes are fetched, or one
    tensor of one case."""
    total = sum(bytes_of.values())
    if total <= IN_FLIGHT:
        return [list(bytes_of)], max(1, min(GROUP, IN_FLIGHT // max(1, total)))
    return cut_groups(bytes_of, IN_FLIGHT), 1


def cut_groups(bytes_of: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in their order, in groups that hold at most `limit` bytes or one name."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, size in bytes_of.items():
        if groups[-1] and held + size > limit:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups


def check_finite(model: onnx.ModelProto, name: str, low: float, high: float) -> None:
    """Unsupported, naming the layer, where an extreme of tensor `name` is NaN or infinite."""
    if isfinite(low) and isfinite(high):
        return
    maker = next((node for node in model.graph.node if name in node.output), None)
    made = f"of layer '{maker.name}' ({maker.op_type})" if maker is not None else "of the input"
    raise Unsupported(f"the output {made} is not finite on the calibration cases", op=maker.op_type if maker else "")
