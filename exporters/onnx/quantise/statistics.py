"""Statistics of activations over real inputs, in memory that does not grow with the number of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.canonical import canonical_json
from edgeft.exporter import Unsupported

from ..tensors import cut_batches, open_session, with_outputs
from .histogram import Histogram

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Ends = NDArray[np.float32]

FILE, COUNTS = "statistics.json", "statistics.safetensors"
GROUP = 8
"""Cases whose extremes are averaged as one (`average` ranges)."""
IN_FLIGHT = 128 << 20
"""Bytes of activations fetched from the runtime at once."""


@dataclass(frozen=True)
class Spread:
    """What is known of one tensor: extremes, means of the extremes of groups of 8 cases, exact zeros, all values, and
    counts in bins of 2 ** exponent, the first starting at first * 2 ** exponent."""

    low: float
    high: float
    mean_low: float
    mean_high: float
    zeros: int
    values: int
    exponent: int
    first: int
    counts: Counts


@dataclass(frozen=True)
class Statistics:
    """tensors: of every tensor asked for. channels: tensor -> (2, channels) float32, lowest and highest of each one,
    for those that cross-layer equalisation rescales. cases: how many were run."""

    cases: int
    tensors: Mapping[str, Spread]
    channels: Mapping[str, Ends]


class _Gathered:
    """One tensor while cases pass by."""

    def __init__(self, axis: int | None) -> None:
        self.histogram, self.axis = Histogram(), axis
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.ends: Any = None

    def add(self, values: Any, low: float, high: float, begins_group: bool) -> None:
        """low, high: the extremes of `values`, which are finite."""
        import numpy as np

        if begins_group:
            self.lows.append(low)
            self.highs.append(high)
        self.lows[-1], self.highs[-1] = min(self.lows[-1], low), max(self.highs[-1], high)
        self.histogram.add(values, low, high)
        if self.axis is not None:
            others = tuple(axis for axis in range(values.ndim) if axis != self.axis % values.ndim)
            lows, highs = values.min(axis=others), values.max(axis=others)
            if self.ends is not None:
                lows, highs = np.minimum(lows, self.ends[0]), np.maximum(highs, self.ends[1])
            self.ends = np.stack([lows, highs])

    def spread(self) -> Spread:
        import numpy as np

        found, counts = self.histogram, self.histogram.counts
        assert counts is not None
        return Spread(
            found.low, found.high, float(np.mean(self.lows)), float(np.mean(self.highs)), found.zeros,
            int(counts.sum()), found.exponent, found.first, counts,
        )  # fmt: skip


def collect(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    feeds: Mapping[str, Any],
    *,
    channels: Mapping[str, int] | None = None,
    fixed: int | None = None,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Statistics:
    """Run every case once (feeds: runtime input name -> (n, ...)) and keep numbers, never activations.

    channels: tensor -> axis along which the extremes of each channel are wanted. fixed: the batch the graph insists
    on. Groups of 8 cases are cut further where their activations exceed `IN_FLIGHT` bytes, and the graph is run again
    for more tensors where those of one case do. Unsupported, naming the layer, where an activation is not finite.
    """
    n = len(next(iter(feeds.values()), ()))
    if n == 0:
        raise Unsupported("there are no calibration cases")
    gathered = {name: _Gathered((channels or {}).get(name)) for name in tensors}
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
                    low, high = float(rows.min()), float(rows.max())
                    _check_finite(model, name, low, high)
                    gathered[name].add(rows, low, high, done % GROUP < (fixed or 1))
            if not groups:
                groups, size = plan_groups(bytes_of)
            done = stop
            progress(done, n)
    ends = {name: item.ends for name, item in gathered.items() if item.ends is not None}
    return Statistics(n, {name: item.spread() for name, item in gathered.items()}, ends)


def plan_groups(bytes_of: Mapping[str, int]) -> tuple[list[list[str]], int]:
    """(groups of tensors to fetch in one run, cases in one run) such that at most `IN_FLIGHT` bytes are fetched, or one
    tensor of one case."""
    total = sum(bytes_of.values())
    if total <= IN_FLIGHT:
        return [list(bytes_of)], max(1, min(GROUP, IN_FLIGHT // max(1, total)))
    groups: list[list[str]] = [[]]
    held = 0
    for name, size in bytes_of.items():
        if groups[-1] and held + size > IN_FLIGHT:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups, 1


def _check_finite(model: onnx.ModelProto, name: str, low: float, high: float) -> None:
    if isfinite(low) and isfinite(high):
        return
    maker = next((node for node in model.graph.node if name in node.output), None)
    made = f"of layer '{maker.name}' ({maker.op_type})" if maker is not None else "of the input"
    raise Unsupported(f"the output {made} is not finite on the calibration cases", op=maker.op_type if maker else "")


def save_statistics(statistics: Statistics, out: Path) -> None:
    """statistics.json and statistics.safetensors in canonical bytes."""
    from safetensors.numpy import save_file

    rows = {name: asdict(spread) for name, spread in statistics.tensors.items()}
    arrays = {f"counts/{name}": row.pop("counts") for name, row in rows.items()}
    arrays |= {f"channels/{name}": ends for name, ends in statistics.channels.items()}
    (out / FILE).write_bytes(canonical_json({"cases": statistics.cases, "tensors": rows}, indent=1))
    save_file(arrays, out / COUNTS)


def load_statistics(folder: Path) -> Statistics:
    """What `save_statistics` wrote. Unsupported where it is not there or not whole."""
    import json

    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        data = json.loads((folder / FILE).read_bytes())
        arrays = load_file(folder / COUNTS)
        tensors = {name: Spread(**row, counts=arrays[f"counts/{name}"]) for name, row in data["tensors"].items()}
        cases = int(data["cases"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise Unsupported("the calibration statistics cannot be read: run the calibration again") from error
    ends = {name.removeprefix("channels/"): ends for name, ends in arrays.items() if name.startswith("channels/")}
    return Statistics(cases, tensors, ends)
