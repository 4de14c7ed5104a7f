"""Peak rates of the target, for the roofline: standard library and numpy only. Travels with worker.py, no edgeft."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

GEMM_SHAPES = ((64, 384, 1536), (64, 1536, 384), (256, 384, 1536))
"""(rows, inner, columns) of the linear layers of a small encoder, at one and at four cases of 64 tokens."""
READS = 6


def best_seconds(run: Callable[[], Any], seconds: float) -> float:
    """The fastest of as many runs as fit into `seconds`, at least five: other work can only slow a run down."""
    best, end = float("inf"), time.perf_counter() + seconds
    for done in range(1_000_000):
        start = time.perf_counter_ns()
        run()
        now = time.perf_counter_ns()
        best = min(best, (now - start) / 1e9)
        if done >= 4 and now / 1e9 > end:
            break
    return best


def numpy_gemm(seconds: float) -> float:
    """10^9 float32 operations a second of numpy's BLAS, the best of GEMM_SHAPES; its threads are the transport's."""
    import numpy as np

    rates = []
    for rows, inner, columns in GEMM_SHAPES:
        left = np.ones((rows, inner), dtype=np.float32)
        right, out = np.ones((inner, columns), dtype=np.float32), np.empty((rows, columns), dtype=np.float32)

        def multiply(left: Any = left, right: Any = right, out: Any = out) -> None:
            np.matmul(left, right, out=out)

        spent = best_seconds(multiply, seconds / len(GEMM_SHAPES))
        rates.append(2 * rows * inner * columns / spent / 1e9)
    return max(rates)


def read_bandwidth(megabytes: int) -> float:
    """10^9 bytes a second that one thread reads: the sum of an array larger than a cache, the best of six."""
    import numpy as np

    array = np.ones(megabytes * 125_000, dtype=np.uint64)
    array.sum()
    best = float("inf")
    for _ in range(READS):
        start = time.perf_counter_ns()
        array.sum()
        best = min(best, (time.perf_counter_ns() - start) / 1e9)
    return float(array.nbytes / best / 1e9)
