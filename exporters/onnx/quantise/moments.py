"""Second moments of what linear layers read: how much an error in each weight changes the layer's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from .stream import check_finite, cut_groups, stream_tensors

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

HELD = 1 << 30
"""Bytes of moments held at once: 16 inputs of 4,096 channels. More are gathered in further runs of the cases."""


@dataclass(frozen=True)
class Moments:
    """Of one tensor with k channels. second: (k, k) float32, mean of x x^T. size: (k,) float32, mean of |x|. rows: how
    many x there were, tokens that the mask leaves out not counted."""

    second: Floats
    size: Floats
    rows: int


class _Sum:
    """One tensor while cases pass by."""

    def __init__(self, channels: int) -> None:
        import numpy as np

        self.second = np.zeros((channels, channels), np.float32)
        self.size = np.zeros(channels, np.float64)
        self.rows = 0

    def add(self, rows: Any) -> None:
        """rows: (tokens, channels) float32."""
        import numpy as np

        self.second += rows.T @ rows
        self.size += np.abs(rows).sum(axis=0, dtype=np.float64)
        self.rows += len(rows)

    def mean(self) -> Moments:
        import numpy as np

        self.second /= self.rows
        return Moments(self.second, (self.size / self.rows).astype(np.float32), self.rows)


def gather_moments(
    model: onnx.ModelProto,
    widths: Mapping[str, int],
    feeds: Mapping[str, Any],
    mask: Any = None,
    fixed: int | None = None,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Iterator[tuple[str, Moments]]:
    """(tensor, its moments) of all cases, in the order of `widths` (tensor -> channels on its last axis).

    feeds: runtime input name -> (n, ...). mask: (n, length), 0 where a token is padding; tensors that have a row for
    each token of a case leave those out. Memory does not grow with n: the moments of `HELD` bytes are gathered in one
    run of the cases. Unsupported where an activation is not finite, or no case has a token.
    """
    groups = cut_groups({name: 4 * width * width for name, width in widths.items()}, HELD)
    for index, group in enumerate(groups):
        sums = {name: _Sum(widths[name]) for name in group}

        def step(done: float, total: float, before: int = index) -> None:
            progress(before * total + done, len(groups) * total)

        for name, values, start, stop in stream_tensors(model, group, feeds, fixed, step):
            rows = _rows(values, None if mask is None else mask[start:stop])
            if len(rows):
                check_finite(model, name, float(rows.min()), float(rows.max()))
                sums[name].add(rows)
        for name in group:
            if not sums[name].rows:
                raise Unsupported("no calibration case has a token that counts")
            yield name, sums.pop(name).mean()


def _rows(values: Any, mask: Any) -> Any:
    """(tokens, channels): without padding where `values` have a row for each token of the mask."""
    rows = values.reshape(-1, values.shape[-1])
    if mask is None or values.shape[:-1] not in (mask.shape, (mask.size,)):
        return rows
    return rows[mask.reshape(-1) != 0]
