"""Statistics of activations over real inputs, in memory that does not grow with the number of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import canonical_json
from edgeft.exporter import Unsupported

from .histogram import Histogram
from .stream import GROUP, check_finite, stream_tensors

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Ends = NDArray[np.float32]

FILE, COUNTS = "statistics.json", "statistics.safetensors"


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
    on. Unsupported, naming the layer, where an activation is not finite.
    """
    n = len(next(iter(feeds.values()), ()))
    gathered = {name: _Gathered((channels or {}).get(name)) for name in tensors}
    for name, rows, start, _ in stream_tensors(model, tensors, feeds, fixed, progress):
        low, high = float(rows.min()), float(rows.max())
        check_finite(model, name, low, high)
        gathered[name].add(rows, low, high, start % GROUP < (fixed or 1))
    ends = {name: item.ends for name, item in gathered.items() if item.ends is not None}
    return Statistics(n, {name: item.spread() for name, item in gathered.items()}, ends)


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
