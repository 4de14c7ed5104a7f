"""Timing loops that run on the target: standard library only, no import of edgeft. Travels with worker.py."""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

WINDOW = 16
SETTLED = 0.02
"""Warm-up ends when the median of the last 16 runs is within 2% of that of the 16 before."""
MOST_WARMUP_SECONDS = 15.0
BLOCKS = 24
SLOWER = 1.10
"""Fixed work that takes over 10% longer than the core's own speed in the run: the core was slow, the block is void."""
OWN_SPEED = 0.1
"""The core's own speed is the one that a tenth of the sentinels reach. Its best would let one lucky reading (a boost of
one block, a clock that ticked late) void every other block; of the 25 sentinels after 24 void blocks two may be lucky.
A core that really ran faster for a tenth of the run or more still voids the slow rest."""
OWN_CORE = 0.9
"""Less of a core than this, over the whole run, and other work was timed too."""
MOST_RUNS = 1_000_000
SENTINEL_STEPS = 5_000
"""About a third of a millisecond: five of them between blocks of 0.4 s cost half a percent of the wall clock."""

Run = Callable[[], Any]
Progress = Callable[[float, float], None]
Read = Callable[[], Mapping[str, float]]
Fixed = Callable[[], float]


def warm_up(run: Run, most: float = MOST_WARMUP_SECONDS) -> tuple[int, bool]:
    """Run until the rolling median settles, or `most` seconds have passed: (number of runs, whether it settled)."""
    start, times = time.perf_counter(), []
    while True:
        times.append(_timed(run))
        spent = time.perf_counter() - start
        if len(times) >= 2 * WINDOW:
            before = statistics.median(times[-2 * WINDOW : -WINDOW])
            if abs(statistics.median(times[-WINDOW:]) - before) <= SETTLED * before:
                return len(times), True
        if spent > most and len(times) >= 3:
            return len(times), False


def time_runs(
    run: Run,
    runs: int,
    seconds: float,
    progress: Progress,
    *,
    read: Read = dict,
    fixed: Fixed | None = None,
    most_warmup: float = MOST_WARMUP_SECONDS,
) -> dict[str, Any]:
    """At least `runs` and at least `seconds` of blocks that the sentinel does not void; every run of those counts.

    A void block is timed again: as many as there are valid ones, and 24 at least; then the loop gives up.
    read: conditions now (clock, temperature). fixed: milliseconds of the fixed work, `sentinel` unless a test says.
    Returns {blocks: [{ms, void, seconds, cpu}], sentinel_ms: before, between and after them, readings: likewise,
    warmup_runs, settled, wall: of the whole loop, seconds}.
    """
    fixed = fixed or sentinel
    warm, settled = warm_up(run, most_warmup)
    blocks: list[dict[str, Any]] = []
    with _no_collection():
        readings, sentinels, start = [dict(read())], [fixed()], time.perf_counter()
        while True:
            blocks.append(_block(run, seconds / BLOCKS))
            readings.append(dict(read()))
            sentinels.append(fixed())
            for block, void in zip(blocks, void_blocks(sentinels), strict=True):
                block["void"] = void
            valid = [block for block in blocks if not block["void"]]
            spent, done = sum(block["seconds"] for block in valid), sum(len(block["ms"]) for block in valid)
            progress(min(spent, seconds), seconds)
            enough = (spent >= seconds and done >= runs) or done >= MOST_RUNS
            if enough or len(blocks) - len(valid) >= max(BLOCKS, len(valid)):
                break
        wall = time.perf_counter() - start
    return {
        "blocks": blocks, "sentinel_ms": sentinels, "readings": readings, "warmup_runs": warm, "settled": settled,
        "wall": wall, "seconds": spent,
    }  # fmt: skip


def compare_runs(
    a: Run, b: Run, blocks: int, seconds: float, progress: Progress, *, fixed: Fixed | None = None
) -> dict[str, Any]:
    """Interleaved quadruples A B B A of short blocks: slow drift of the machine falls on both alike.

    A quadruple beside a slow sentinel is void and timed again, as many as were asked at most.
    {blocks: [[ms of A], [ms of B]] per valid quadruple, void: the others likewise, sentinel_ms}. seconds: all together.
    """
    fixed = fixed or sentinel
    warm_up(a)
    warm_up(b)
    each = seconds / (4 * blocks)
    quadruples: list[list[list[float]]] = []
    with _no_collection():
        sentinels = [fixed()]
        while True:
            times: list[list[float]] = [[], []]
            for which in (0, 1, 1, 0):
                times[which] += _block((a, b)[which], each)["ms"]
            quadruples.append(times)
            sentinels.append(fixed())
            void = void_blocks(sentinels)
            progress(min(blocks, void.count(False)), blocks)
            if void.count(False) >= blocks or void.count(True) >= blocks:
                break
    valid = [times for times, bad in zip(quadruples, void, strict=True) if not bad]
    dropped = [times for times, bad in zip(quadruples, void, strict=True) if bad]
    return {"blocks": valid, "void": dropped, "sentinel_ms": sentinels}


def sentinel() -> float:
    """Processor milliseconds of fixed integer work, the best of five: how fast the core itself is now.

    Windows counts processor time in ticks of 15.6 ms, so that the best of five is 0 there. Then it is the wall clock's:
    the best of five short pieces of work is rarely one that was interrupted.
    """
    used, passed = [], []
    for _ in range(5):
        began, start = time.perf_counter_ns(), time.process_time_ns()
        _fixed_work()
        used.append((time.process_time_ns() - start) / 1e6)
        passed.append((time.perf_counter_ns() - began) / 1e6)
    return min(used) or min(passed)


def own_speed(sentinels: Sequence[float]) -> float:
    """The least milliseconds that a tenth of the sentinels do not exceed: the best of up to ten, then the second."""
    return sorted(sentinels)[max(0, math.ceil(OWN_SPEED * len(sentinels) - 1e-9) - 1)]


def void_blocks(sentinels: Sequence[float]) -> list[bool]:
    """For each block between two sentinels: was the core over 10% slower beside it than its own speed in this run?"""
    limit = SLOWER * own_speed(sentinels)
    return [before > limit or after > limit for before, after in itertools.pairwise(sentinels)]


def throttled(sentinels: Sequence[float]) -> bool:
    """True when the core was over 10% slower in one third of a run than in its fastest: sustained, not one hiccup."""
    third = len(sentinels) // 3
    if third == 0:
        return max(sentinels) > SLOWER * min(sentinels)
    parts = [sentinels[:third], sentinels[third:-third], sentinels[-third:]]
    medians = [statistics.median(part) for part in parts]
    return max(medians) > SLOWER * min(medians)


def _block(run: Run, seconds: float) -> dict[str, Any]:
    """Runs until the time is up, one at least: {ms, seconds: wall, cpu: processor seconds}."""
    samples: list[float] = []
    used, start = time.process_time(), time.perf_counter()
    end = start + seconds
    while True:
        samples.append(_timed(run))
        now = time.perf_counter()
        if now >= end:
            return {"ms": samples, "seconds": now - start, "cpu": time.process_time() - used}


def _timed(run: Run) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage collector waits: its pauses are no part of the model."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _fixed_work() -> int:
    total = 0
    for value in range(SENTINEL_STEPS):
        total = (total * 31 + value) & 0xFFFFFFFF
    return total
