"""MLPerf's early stopping against LoadGen itself, on the very latencies LoadGen measured."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from edgeft.targets.early_stopping import discarded_queries, early_stopping_estimate


def run_loadgen(folder: Path, queries: int) -> tuple[list[int], dict[str, Any]]:
    """(latency of every query in ns, LoadGen's log: key -> value) of a SingleStream run of sleeps of two lengths."""
    loadgen = pytest.importorskip("mlperf_loadgen")

    def answer(samples: list[Any]) -> None:
        time.sleep(0.001 if samples[0].index % 7 == 0 else 0.0002)
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

    settings = loadgen.TestSettings()
    settings.scenario, settings.mode = loadgen.TestScenario.SingleStream, loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = queries
    settings.min_duration_ms = 0
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    log = loadgen.LogSettings()
    log.log_output, log.enable_trace = output, True
    system = loadgen.ConstructSUT(answer, lambda: None)
    library = loadgen.ConstructQSL(64, 64, lambda samples: None, lambda samples: None)
    try:
        loadgen.StartTestWithLogSettings(system, library, settings, log)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
    trace = (folder / "mlperf_log_trace.json").read_text().splitlines()
    events = [json.loads(line.rstrip(",")) for line in trace if '"complete_ns"' in line]
    lines = (folder / "mlperf_log_detail.txt").read_text().splitlines()
    told = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines if line.startswith(":::MLLOG")]
    return [event["args"]["complete_ns"] for event in events], {row["key"]: row["value"] for row in told}


@pytest.mark.ml
@pytest.mark.parametrize("queries", [64, 100, 300, 700, 1200])
def test_the_estimate_is_loadgens_own(tmp_path: Path, queries: int) -> None:
    """To the nanosecond, for p90 always and for p99 where LoadGen gives one (662 queries)."""
    latencies, told = run_loadgen(tmp_path, queries)
    assert len(latencies) == queries
    assert max(latencies) == told["result_max_latency_ns"], "the trace's latencies are those LoadGen judged"
    assert early_stopping_estimate(latencies) == told["early_stopping_latency_ss"]
    over = discarded_queries(queries)
    assert f"Would discard {over - 1} highest latency queries" in told["early_stopping_result"]
    p99 = early_stopping_estimate(latencies, 0.99)
    if queries < 662:
        assert p99 is None and "need to process at" in told["early_stopping_result"]
    else:
        assert f"99.0th percentile estimate: {p99:.0f}" in told["early_stopping_result"]


def test_fewer_than_64_queries_bound_nothing() -> None:
    """0.9^64 + 64 x 0.1 x 0.9^63 = 0.0096 is below 1 - 0.99; with 63 queries it is 0.0105."""
    assert discarded_queries(63) == 0 and discarded_queries(64) == 1
    assert early_stopping_estimate([1.0] * 63) is None
    assert early_stopping_estimate([float(value) for value in range(64)]) == 63.0


@pytest.mark.parametrize("n", [64, 200, 1024, 5000])
def test_the_bound_covers_what_it_promises(n: int) -> None:
    """The odds of t or fewer are under 1%, of t + 1 not: no larger t would do."""
    from scipy.stats import binom

    t = discarded_queries(n)
    assert binom.cdf(t, n, 0.1) < 0.01 <= binom.cdf(t + 1, n, 0.1)
