"""Timing loops: they warm up, run long enough, keep every run, and see a core that slows down."""

from __future__ import annotations

import itertools
import time

from edgeft.device import timing


def test_at_least_the_runs_and_the_seconds() -> None:
    seen = []
    result = timing.time_runs(lambda: time.sleep(0.001), 70, 0.05, lambda done, total: seen.append((done, total)))
    assert len(result["samples_ms"]) >= 70 and result["seconds"] >= 0.05
    assert result["warmup_runs"] >= 3 and seen[-1] == (0.05, 0.05)
    assert min(result["samples_ms"]) >= 1.0, "milliseconds, and none below what the work takes"
    assert 0 <= result["core_share"] < timing.OWN_CORE, "a sleeping process does not have its core"


def test_every_run_is_kept() -> None:
    calls = itertools.count()
    result = timing.time_runs(lambda: next(calls), 500, 0.0, lambda done, total: None)
    assert len(result["samples_ms"]) + result["warmup_runs"] == next(calls)


def test_warm_up_waits_until_the_median_settles() -> None:
    calls = itertools.count()
    cold_runs = 60

    def run() -> None:
        end = time.perf_counter() + (0.003 if next(calls) < cold_runs else 0.001)
        while time.perf_counter() < end:
            pass

    assert timing.warm_up(run) >= 2 * timing.WINDOW


def test_throttling_is_a_sustained_slow_down_not_a_hiccup() -> None:
    steady = [1.0, 1.01] * 12
    assert not timing.throttled(steady)
    assert not timing.throttled([*steady[:-1], 3.0])
    assert timing.throttled([1.0] * 12 + [1.2] * 12)
    assert timing.throttled([1.2] * 12 + [1.0] * 12), "slow at first and fast later is as wrong"
    assert timing.throttled([1.0, 1.2])


def test_comparison_interleaves() -> None:
    order: list[str] = []
    result = timing.compare_runs(lambda: order.append("a"), lambda: order.append("b"), 3, 0.0, lambda d, t: None)
    assert "".join(order[-12:]) == "abba" * 3
    assert [[len(side) for side in block] for block in result["blocks"]] == [[2, 2]] * 3
