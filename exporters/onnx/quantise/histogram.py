"""A histogram that grows with what it sees: fixed memory, exact counts, the same result in any order of values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = 2048
FINEST = 20
"""Bins are no narrower than 2 ** -FINEST of the largest magnitude: float32 tells no more apart."""


class Histogram:
    """Counts of float32 values in at most `BINS` bins of width 2 ** exponent whose edges are multiples of it.

    When a value falls outside, the width doubles and neighbours are added in pairs, so no count is ever spread over
    bins by a guess: the counts are those of one pass with the final width, which depends on the extremes alone. The
    width is below 1/512 of the range (hi - lo), which bounds the error of a range read from it. Streaming calibrators
    (TensorRT, ORT, torch.ao) instead stretch or re-sample a range set by the first batch.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] | None = None
        self.first, self.exponent, self.zeros = 0, 0, 0
        self.low, self.high = 0.0, 0.0

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(2.0**self.exponent)

    def add(self, values: NDArray[Any], low: float, high: float) -> None:
        """Finite float32 values of any shape, at least one, and their extremes. The caller checks that they are
        finite."""
        import numpy as np

        flat = np.ascontiguousarray(values, dtype=np.float32).ravel()
        self._make_room(low, high)
        assert self.counts is not None
        # In place, since these passes over memory are most of what calibration adds to the runs. All of it is exact:
        # a scale that is a power of two, and whole numbers below 2 ** 24.
        scaled = flat * np.float32(2.0**-self.exponent)
        np.floor(scaled, out=scaled)
        np.subtract(scaled, np.float32(self.first), out=scaled)
        self.counts += np.bincount(scaled.astype(np.intp), minlength=len(self.counts))
        self.zeros += int(flat.size - np.count_nonzero(flat))

    def edges(self) -> NDArray[np.float64]:
        """(bins + 1,) ascending."""
        import numpy as np

        count = 0 if self.counts is None else len(self.counts)
        return np.arange(self.first, self.first + count + 1, dtype=np.float64) * self.width

    def _make_room(self, low: float, high: float) -> None:
        """Widen the bins until they hold `low` and `high`, and lengthen the counts to them."""
        import numpy as np

        if self.counts is None:
            self.counts, self.exponent = np.zeros(1, dtype=np.int64), finest_exponent(low, high)
            self.low, self.high, self.first = low, high, _bin(low, self.exponent)
        self.low, self.high = min(self.low, low), max(self.high, high)
        while self.exponent < finest_exponent(self.low, self.high):
            self._halve()
        start, end = _bin(self.low, self.exponent), _bin(self.high, self.exponent)
        before, after = self.first - start, end - (self.first + len(self.counts) - 1)
        self.counts = np.pad(self.counts, (max(0, before), max(0, after)))
        self.first = min(self.first, start)

    def _halve(self) -> None:
        import numpy as np

        assert self.counts is not None
        padded = np.pad(self.counts, (self.first % 2, (self.first % 2 + len(self.counts)) % 2))
        self.counts, self.first = padded.reshape(-1, 2).sum(axis=1), self.first // 2
        self.exponent += 1


def finest_exponent(low: float, high: float) -> int:
    """The least power of two of which at most `BINS` bins reach from `low` to `high`."""
    from math import frexp

    largest = max(abs(low), abs(high))
    if largest == 0:
        return 0
    exponent = max(frexp(largest)[1] - FINEST, -120)
    while _bin(high, exponent) - _bin(low, exponent) >= BINS:
        exponent += 1
    return exponent


def _bin(value: float, exponent: int) -> int:
    from math import floor

    return floor(value * 2.0**-exponent)
