"""VALID or INVALID, and the conditions in words, from the answers of timing jobs (injected here)."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.targets.latency import Protocol, core_share, judge, latency_measurements, latency_row, thin, valid_samples

PLAN = Protocol(runs=64, seconds=10.0, cold=1)


def timed(blocks: int = 24, void: int = 0, share: float = 1.0, runs: int = 4, **more: Any) -> dict[str, Any]:
    """The answer of a `latency` job: blocks of 0.42 s, the first `void` of them void."""
    seconds = 0.42
    return {
        "blocks": [
            {"ms": [5.0 + index / 100] * runs, "void": index < void, "seconds": seconds, "cpu": share * seconds}
            for index in range(blocks)
        ],
        "sentinel_ms": [1.0] * (blocks + 1), "readings": [{} for _ in range(blocks + 1)], "warmup_runs": 40,
        "settled": True, "wall": 10.5, "seconds": (blocks - void) * seconds, "throttled": False, **more,
    }  # fmt: skip


def readings(key: str, values: list[float]) -> list[dict[str, float]]:
    return [{key: value} for value in values]


def test_a_steady_run_is_valid() -> None:
    row = latency_row(timed(), PLAN, threads=1, shape="1x64", protocol="quick")
    assert row.valid and row.reasons == [] and row.runs == 96 and row.discarded == 0
    assert row.early_stopping_p90_ms is not None and not row.throttled
    assert row.conditions["core_share"] == "1.00" and row.conditions["blocks"] == "24 valid, 0 void and timed again"


def test_void_blocks_are_left_out_whole_and_counted() -> None:
    data = timed(blocks=30, void=6)
    row = latency_row(data, PLAN, threads=1, shape="1x64", protocol="quick")
    assert row.valid and row.runs == 96 and row.discarded == 24
    assert min(row.samples_ms) == pytest.approx(5.06), "none of the void blocks' runs"
    assert row.conditions["blocks"] == "24 valid, 6 void and timed again"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (timed(blocks=28, void=24), "too few valid blocks: 16 of 64 runs in 1.7 of 10 s; beside 24 of 28 blocks"),
        (timed(runs=1), "too few valid blocks: 24 of 64 runs"),
        (timed(share=0.7), "this process had 70% of a core, 90% needed"),
        (timed(readings=readings("mhz", [2400.0] * 12 + [1800.0] * 13)), "the clock changed: 1800 to 2400 MHz"),
        (timed(readings=readings("throttle_events", [3.0] * 20 + [5.0] * 5)), "throttled 2 times for its temperature"),
    ],
)
def test_why_a_run_is_invalid(data: dict[str, Any], reason: str) -> None:
    row = latency_row(data, PLAN, threads=1, shape="1x64", protocol="quick")
    assert not row.valid and len(row.reasons) == 1 and reason in row.reasons[0]


def test_one_odd_clock_reading_is_no_reason() -> None:
    assert judge(timed(readings=readings("mhz", [2400.0] * 24 + [800.0])), PLAN) == []


def test_an_accelerators_run_does_not_need_a_core() -> None:
    data = timed(share=0.2)
    assert judge(data, PLAN) and judge(data, PLAN, accelerated=True) == []


def test_when_every_block_is_void_the_runs_are_shown_as_invalid() -> None:
    row = latency_row(timed(void=24), PLAN, threads=1, shape="1x64", protocol="quick")
    assert not row.valid and row.runs == 96 and row.early_stopping_p90_ms is None
    assert valid_samples(timed(void=24)) == [] and core_share(timed(void=24, share=0.5)) == pytest.approx(0.5)


def test_conditions_before_during_and_after() -> None:
    heat = [40.0, 41.0, 55.0, *[50.0] * 21, 48.0]
    data = timed(readings=readings("celsius", heat), clock={"cpu_governor": "powersave"}, waited_seconds=0.5)
    found = latency_row(data | {"affinity": "cores 4"}, PLAN, threads=1, shape="1", protocol="quick").conditions
    assert found["temperature_c"] == "40 before, 40 to 55 during, 48 after"
    assert found["governor"] == "powersave" and found["affinity"] == "cores 4"
    assert found["waited_for_a_core"] == "0.50 s" and found["warm_up"] == "40 runs, settled"


def test_quantiles_of_an_invalid_run_say_so() -> None:
    found = latency_measurements([float(value) for value in range(100)], "here", "; INVALID: a reason")
    assert [item.metric for item in found] == ["latency_p50_ms", "latency_p90_ms", "latency_p99_ms"]
    assert all(item.method.endswith("; INVALID: a reason") for item in found)


def test_thinning_keeps_order_and_spread() -> None:
    assert thin([1.0, 2.0], 4) == [1.0, 2.0]
    assert thin([float(value) for value in range(100)], 4) == [0.0, 25.0, 50.0, 75.0]
