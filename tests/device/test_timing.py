"""Timing loops: they warm up, run long enough, keep every run of a valid block, and see a core that slows down."""

from __future__ import annotations

import ctypes
import gc
import itertools
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgeft.device import conditions, timing


def quiet(done: float, total: float) -> None:
    """No progress wanted."""


def readings_of(values: list[float], after: float) -> Callable[[], float]:
    """A fake sentinel: these milliseconds in turn, then `after` for ever."""
    turn: Iterator[float] = itertools.chain(values, itertools.repeat(after))
    return lambda: next(turn)


def times(result: dict[str, list[dict[str, list[float]]]]) -> list[float]:
    return [value for block in result["blocks"] if not block["void"] for value in block["ms"]]


def test_at_least_the_runs_and_the_seconds() -> None:
    seen = []
    steady = readings_of([], 1.0)
    result = timing.time_runs(lambda: time.sleep(0.001), 70, 0.05, lambda *step: seen.append(step), fixed=steady)
    assert len(times(result)) >= 70 and result["seconds"] >= 0.05 and result["wall"] >= result["seconds"]
    assert result["warmup_runs"] >= 3 and seen[-1] == (0.05, 0.05)
    assert min(times(result)) >= 1.0, "milliseconds, and none below what the work takes"
    used = sum(block["cpu"] for block in result["blocks"])
    assert used < timing.OWN_CORE * result["seconds"], "a sleeping process does not have its core"


def test_every_run_is_kept() -> None:
    calls = itertools.count()
    result = timing.time_runs(lambda: next(calls), 500, 0.0, quiet, fixed=readings_of([], 1.0))
    assert len(times(result)) + result["warmup_runs"] == next(calls)


def test_a_block_beside_a_slow_sentinel_is_timed_again() -> None:
    """Fake sentinels: the third reading is 20% slow, so the blocks on both its sides are void, whole."""
    result = timing.time_runs(lambda: time.sleep(0.0005), 10, 0.03, quiet, fixed=readings_of([1.0, 1.05, 1.2], 1.0))
    assert [block["void"] for block in result["blocks"][:4]] == [False, True, True, False]
    valid = [block for block in result["blocks"] if not block["void"]]
    assert sum(block["seconds"] for block in valid) == pytest.approx(result["seconds"]) and result["seconds"] >= 0.03
    assert len(result["sentinel_ms"]) == len(result["blocks"]) + 1 == len(result["readings"])


def test_one_lucky_sentinel_voids_nothing() -> None:
    """The first reading is 20% fast and no later one is: the core's own speed is that of the later ones."""
    result = timing.time_runs(lambda: time.sleep(0.0005), 10, 0.03, quiet, fixed=readings_of([1.0], 1.2))
    valid = [block for block in result["blocks"] if not block["void"]]
    assert sum(block["seconds"] for block in valid) == pytest.approx(result["seconds"]) and result["seconds"] >= 0.03
    assert not any(timing.void_blocks([0.8, *[1.0] * 12, 0.8, *[1.0] * 11])), "two of 25, anywhere"


def test_the_own_speed_is_what_a_tenth_of_the_sentinels_reach() -> None:
    assert timing.own_speed([1.2, 1.0]) == 1.0, "too few to call one lucky"
    assert timing.own_speed([1.0, *[1.2] * 9]) == 1.0
    assert timing.own_speed([1.0, *[1.2] * 10]) == 1.2
    assert timing.void_blocks([1.0] * 3 + [1.2] * 22).count(True) == 22, "faster for over a tenth: that was its speed"


def test_a_core_that_never_recovers_ends_the_loop() -> None:
    result = timing.time_runs(lambda: time.sleep(0.0005), 10, 0.03, quiet, fixed=readings_of([1.0] * 3, 1.2))
    assert result["blocks"][:2] and not any(block["void"] for block in result["blocks"][:2])
    result["blocks"] = result["blocks"][2:]
    assert len(result["blocks"]) == timing.BLOCKS and all(block["void"] for block in result["blocks"])


def test_a_faster_sentinel_later_voids_what_came_before() -> None:
    result = timing.time_runs(lambda: None, 3, 0.0, quiet, fixed=readings_of([1.0] * 3, 0.8))
    assert not result["blocks"][0]["void"] or len(result["blocks"]) > 3


def test_one_slow_run_is_no_reason_to_drop_it() -> None:
    """An outlier belongs to the model's latency; only the sentinel voids."""
    calls = itertools.count()

    def run() -> None:
        time.sleep(0.02 if next(calls) % 40 == 39 else 0.0002)

    result = timing.time_runs(run, 120, 0.05, quiet, fixed=readings_of([], 1.0))
    assert sum(value > 15 for value in times(result)) >= 2


def test_warm_up_waits_until_the_median_settles() -> None:
    calls = itertools.count()
    cold_runs = 60

    def run() -> None:
        end = time.perf_counter() + (0.003 if next(calls) < cold_runs else 0.001)
        while time.perf_counter() < end:
            pass

    runs, settled = timing.warm_up(run)
    assert runs >= 2 * timing.WINDOW and settled


def test_warm_up_gives_up_on_what_never_settles() -> None:
    calls = itertools.count()
    runs, settled = timing.warm_up(lambda: time.sleep(0.001 * (1 + next(calls))), 0.1)
    assert runs >= 3 and not settled


def test_the_collector_waits_and_comes_back() -> None:
    seen = []
    timing.time_runs(lambda: seen.append(gc.isenabled()), 5, 0.0, quiet)
    assert not seen[-1] and gc.isenabled()


def test_the_real_sentinel_is_short_and_its_own_measure() -> None:
    first, second = timing.sentinel(), timing.sentinel()
    assert 0.05 < first < 20 and 0.5 < first / second < 2


def test_throttling_is_a_sustained_slow_down_not_a_hiccup() -> None:
    steady = [1.0, 1.01] * 12
    assert not timing.throttled(steady)
    assert not timing.throttled([*steady[:-1], 3.0])
    assert timing.throttled([1.0] * 12 + [1.2] * 12)
    assert timing.throttled([1.2] * 12 + [1.0] * 12), "slow at first and fast later is as wrong"
    assert timing.throttled([1.0, 1.2])


def test_comparison_interleaves() -> None:
    order: list[str] = []
    steady = readings_of([], 1.0)
    result = timing.compare_runs(lambda: order.append("a"), lambda: order.append("b"), 3, 0.0, quiet, fixed=steady)
    assert "".join(order[-12:]) == "abba" * 3
    assert [[len(side) for side in block] for block in result["blocks"]] == [[2, 2]] * 3


def test_a_void_quadruple_is_compared_again() -> None:
    result = timing.compare_runs(lambda: None, lambda: None, 3, 0.0, quiet, fixed=readings_of([1.0, 1.0, 1.3], 1.0))
    assert len(result["blocks"]) == 3 and len(result["void"]) == 2


def test_conditions_are_read_here() -> None:
    """The machine tells some or none of its clock and heat; what it tells is a number in range."""
    found = conditions.reading()
    assert set(found) <= {"mhz", "celsius", "throttle_events"}
    assert all(value > -40 for value in found.values())
    assert 5 < conditions.peak_memory_mb() < 100_000
    assert conditions.own_cores() and conditions.pin(()) == ""


class Kernel32:
    """What Windows answers, written where Microsoft's PROCESS_MEMORY_COUNTERS has it on 64 bits."""

    def __init__(self, name: str) -> None:
        assert name == "kernel32"

        def current() -> int:
            return (1 << 64) - 1

        def ask(process: int, counters: Any, size: int) -> int:
            assert process == (1 << 64) - 1 and size == 72 == struct.unpack("I", bytes(counters._obj)[:4])[0]
            ctypes.memmove(ctypes.addressof(counters._obj) + 8, struct.pack("QQ", 123_000_000, 45_000_000), 16)
            return 1

        self.GetCurrentProcess, self.K32GetProcessMemoryInfo = current, ask


def test_peak_memory_on_windows_and_where_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc and no `resource`, as on Windows: its own call is asked; without that there is no figure, no failure."""
    monkeypatch.setattr(conditions, "_read", lambda path: "")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert conditions.peak_memory_mb() is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert conditions.peak_memory_mb() is None, "an older Windows without the call"
    monkeypatch.setattr(ctypes, "WinDLL", Kernel32, raising=False)
    assert conditions.peak_memory_mb() == 123.0


def test_the_sentinel_works_on_a_clock_of_coarse_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows counts processor time in ticks of 15.6 ms: a sentinel of 0 would void nothing."""
    tick, real = 15_625_000, time.process_time_ns
    monkeypatch.setattr(time, "process_time_ns", lambda: real() // tick * tick)
    assert all(0.05 < timing.sentinel() < 20 for _ in range(5))


def test_pinning_says_what_came_of_it() -> None:
    before = conditions.own_cores()
    try:
        assert conditions.pin(before[:1]) == f"cores {before[0]}"
        assert conditions.own_cores() in (before[:1], before), "where a system can pin, it did"
        assert "refused" in conditions.pin([10_000]) or "cannot pin" in conditions.pin([10_000])
    finally:
        conditions.pin(before)
