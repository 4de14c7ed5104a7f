"""Interference only slows: an INVALID time passes a limit it keeps, and fails none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgeft.gate import Verdict
from edgeft.pipeline.judging.gatekeeping import _doubt
from edgeft.record import LatencyRow


def trial(*, valid: bool) -> Any:
    latency = LatencyRow(
        samples_ms=[9.0], runs=1, warmup_runs=1, seconds=1.0, threads=1, shape="1x64", protocol="quick", valid=valid,
        reasons=[] if valid else ["other work ran on the device"],
    )  # fmt: skip
    return SimpleNamespace(row=SimpleNamespace(latency=latency))


def verdict(status: Any, metric: str = "latency_p90_ms") -> Verdict:
    return Verdict(f"{metric} at most 6", metric, "here", status, "9 ms is above 6 ms")


def test_an_invalid_time_does_not_fail_a_gate_and_says_why() -> None:
    found = _doubt(verdict("FAIL"), trial(valid=False))
    assert found.status == "INCONCLUSIVE"
    assert "other work ran on the device" in found.why and "--remeasure" in found.why


@pytest.mark.parametrize(
    ("status", "metric", "valid"),
    [
        ("FAIL", "latency_p90_ms", True),
        ("PASS", "latency_p90_ms", False),
        ("INCONCLUSIVE", "latency_p50_ms", False),
        ("FAIL", "artifact_mb", False),
        ("FAIL", "cold_load_ms", False),
    ],
)
def test_every_other_verdict_stands(status: str, metric: str, valid: bool) -> None:
    assert _doubt(verdict(status, metric), trial(valid=valid)) == verdict(status, metric)
