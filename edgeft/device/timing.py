"""Timing loops that run on the target: standard library and numpy only, no import of edgeft. Travels with worker.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

WINDOW = 16
SETTLED = 0.02
"""Warm-up ends when the median of the last 16 runs is within 2% of that of the 16 before."""
MOST_WARMUP_SECONDS = 15.0
BLOCKS = 24
SLOWER = 1.10
"""A sustained slow-down of fixed work by more than this is throttling."""
OWN_CORE = 0.9
"""Less of a core than this, over the whole run, and other work was timed too."""
MOST_RUNS = 1_000_000

Run = Callable[[], Any]
Progress = Callable[[float, float], None]


def warm_up(run: Run) -> int:
    """Run until the rolling median settles, or 15 s have passed; returns the number of runs."""
    start, times = time.perf_counter(), []
    while True:
        times.append(_timed(run))
        spent = time.perf_counter() - start
        if len(times) >= 2 * WINDOW:
            before = statistics.median(times[-2 * WINDOW : -WINDOW])
            if abs(statistics.median(times[-WINDOW:]) - before) <= SETTLED * before:
                return len(times)
        if spent > MOST_WARMUP_SECONDS and len(times) >= 3:
            return len(times)


def time_runs(run: Run, runs: int, seconds: float, progress: Progress) -> dict[str, Any]:
    """At least `runs` and at least `seconds`, in blocks with fixed work between them. Every run counts.

    {samples_ms: in order, warmup_runs, seconds, sentinel_ms: before, between and after the blocks,
    core_share: processor time over wall time, at most 1}
    """
    warm = warm_up(run)
    sentinels = [sentinel()]
    samples: list[float] = []
    start, used = time.perf_counter(), time.process_time()
    while True:
        _block(run, samples, seconds / BLOCKS)
        sentinels.append(sentinel())
        spent = time.perf_counter() - start
        progress(min(spent, seconds), seconds)
        if (spent >= seconds and len(samples) >= runs) or len(samples) >= MOST_RUNS:
            share = min(1.0, (time.process_time() - used) / spent)
            times = {"samples_ms": samples, "warmup_runs": warm, "seconds": spent}
            return {**times, "sentinel_ms": sentinels, "core_share": share}


def compare_runs(a: Run, b: Run, blocks: int, seconds: float, progress: Progress) -> dict[str, Any]:
    """Interleaved quadruples A B B A of short blocks: slow drift of the machine falls on both alike.

    {blocks: [[ms of A], [ms of B]] per quadruple, sentinel_ms}. seconds: all timed blocks together.
    """
    warm_up(a)
    warm_up(b)
    each = seconds / (4 * blocks)
    quadruples, sentinels = [], [sentinel()]
    for done in range(blocks):
        times: list[list[float]] = [[], []]
        for which in (0, 1, 1, 0):
            _block((a, b)[which], times[which], each)
        quadruples.append(times)
        sentinels.append(sentinel())
        progress(done + 1, blocks)
    return {"blocks": quadruples, "sentinel_ms": sentinels}


def sentinel() -> float:
    """Processor milliseconds of fixed integer work, the best of five: how fast the core itself is now."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time_ns()
        _fixed_work()
        best = min(best, (time.process_time_ns() - start) / 1e6)
    return best


def throttled(sentinels: Sequence[float]) -> bool:
    """True when the core was over 10% slower in one third of a run than in its fastest: sustained, not one hiccup."""
    third = len(sentinels) // 3
    if third == 0:
        return max(sentinels) > SLOWER * min(sentinels)
    parts = [sentinels[:third], sentinels[third:-third], sentinels[-third:]]
    medians = [statistics.median(part) for part in parts]
    return max(medians) > SLOWER * min(medians)


def _block(run: Run, samples: list[float], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while True:
        samples.append(_timed(run))
        if time.perf_counter() >= end:
            return


def _timed(run: Run) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def _fixed_work() -> int:
    total = 0
    for value in range(20_000):
        total = (total * 31 + value) & 0xFFFFFFFF
    return total
