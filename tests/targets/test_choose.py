"""The choice: who is refused and why, ties, and the nearest miss."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.gate import Gate
from edgeft.measurement import Measurement
from edgeft.record import CandidateRow, LatencyRow
from edgeft.targets.choose import Miss, choose

SOURCE = {"accuracy": 0.90}
MARGIN = Gate(metric="accuracy", no_worse_than="source", margin=0.02)  # type: ignore[call-arg]


def row(name: str, p50: float | None, accuracy: float = 0.90, size: int = 10_000_000, **more: Any) -> CandidateRow:
    metrics = [Measurement("accuracy", accuracy, "", 100, "measured", "here")]
    if p50 is not None:
        spread = more.pop("spread", 0.1)
        metrics.append(Measurement("latency_p50_ms", p50, "ms", 99, "measured", "here", (p50 - spread, p50 + spread)))
    return CandidateRow(
        name=f"onnx/{name}", exporter="onnx", runtime="onnxruntime", variant={"name": name},
        status=more.pop("status", "eligible"), why=more.pop("why", ""), bytes=size,
        metrics=[metric.to_json() for metric in metrics], **more,
    )  # fmt: skip


def told(
    rows: list[CandidateRow], optimise: Any = "latency", gates: list[Gate] | None = None
) -> tuple[Any, dict[str, str], str]:
    sources = dict.fromkeys([row.name for row in rows], SOURCE)
    choice = choose(rows, optimise, [MARGIN] if gates is None else gates, sources)
    return choice.chosen, {r.variant["name"]: f"{r.status}: {r.why}" for r in choice.rows}, choice.why


def test_the_fastest_that_keeps_accuracy_wins() -> None:
    chosen, rows, why = told([row("float", 8.0), row("int8", 3.0, 0.89), row("int4", 2.0, 0.80)])
    assert chosen == "onnx/int8" and "3 ms" in why
    assert rows["int4"] == "rejected: accuracy drops by 0.1 on the search set, the gate allows 0.02"
    assert rows["float"] == "eligible: slower than onnx/int8" and rows["int8"] == "chosen: fastest"


def test_what_is_worse_than_the_released_bundle_is_passed_over() -> None:
    """int8 is as good as its source, and worse than what was shipped."""
    gate = Gate(metric="accuracy", no_worse_than="out/v1", margin=0.02)  # type: ignore[call-arg]
    rows = [row("float", 8.0, 0.94), row("int8", 3.0, 0.90)]
    shipped = {row.name: {"out/v1": {"accuracy": 0.95}} for row in rows}
    sources = dict.fromkeys([row.name for row in rows], SOURCE)
    choice = choose(rows, "latency", [MARGIN, gate], sources, released=shipped)
    assert choice.chosen == "onnx/float"
    assert choice.rows[1].why == "accuracy drops by 0.05 since v1 on the search set, the gate allows 0.02"
    assert choose(rows, "latency", [MARGIN], sources, released=shipped).chosen == "onnx/int8"


def test_slower_than_float_is_refused_with_both_figures() -> None:
    chosen, rows, _ = told([row("float", 8.0), row("static", 15.9, size=1)])
    assert chosen == "onnx/float"
    assert rows["static"] == "rejected: not faster than float here: 15.9 ms against 8 ms"


def test_slower_than_a_float_that_may_not_ship_is_still_allowed() -> None:
    limit = Gate(metric="artifact_mb", at_most=5)  # type: ignore[call-arg]
    chosen, rows, _ = told([row("float", 8.0), row("small", 9.0, size=4_000_000)], gates=[limit])
    assert chosen == "onnx/small"
    assert rows["float"] == "rejected: artifact_mb is 10, the gate allows 5"


def test_size_decides_when_size_is_asked_even_without_latency() -> None:
    chosen, rows, _ = told([row("float", None), row("a", None, size=3), row("b", None, size=20_000_000)], "size")
    assert chosen == "onnx/a" and rows["b"].startswith("rejected: not smaller than float")
    chosen, rows, why = told([row("float", None)])
    assert chosen is None and rows["float"] == "rejected: its latency was not measured" and "nearest" in why


def test_level_latencies_break_by_size_then_name() -> None:
    chosen, rows, why = told([row("float", 8.0), row("a", 3.0, size=5), row("b", 3.1, size=4)])
    assert chosen == "onnx/b" and "level with onnx/a" in why and rows["a"] == "eligible: level with onnx/b"
    assert told([row("float", 8.0), row("b", 3.0, size=5), row("a", 3.1, size=5)])[0] == "onnx/a"
    assert told([row("float", 8.0), row("a", 3.0, size=5), row("b", 3.3, size=4)])[0] == "onnx/a"


def test_nothing_eligible_names_the_nearest_miss() -> None:
    chosen, _, why = told([row("float", 8.0, 0.85), row("int8", 3.0, 0.70)])
    assert chosen is None
    assert (
        why
        == "no candidate is eligible; nearest: onnx/float: accuracy drops by 0.05 on the search set, the gate allows 0.02"
    )


def test_what_a_search_refused_counts_as_a_miss_of_its_gate() -> None:
    rows, sources = [row("float", 8.0, 0.9), row("int8", 3.0, 0.9)], {"onnx/float": SOURCE, "onnx/int8": SOURCE}
    far, near = Miss("latency_p90_ms", "too slow", float("inf")), Miss("accuracy", "chance 0.2, asked 0.8", 0.6)
    choice = choose(rows, "latency", [MARGIN], sources, {"onnx/float": far, "onnx/int8": near})
    assert (choice.chosen, choice.missed) == (None, "accuracy")
    assert choice.why == "no candidate is eligible; nearest: onnx/int8: chance 0.2, asked 0.8"
    assert choose(rows, "latency", [MARGIN], sources, {"onnx/int8": near}).chosen == "onnx/float"
    assert choose([row("a", None)], "latency", [MARGIN], {"onnx/a": SOURCE}).missed == "", "not measured is no miss"


def test_unsupported_and_failed_rows_stay_as_they_are() -> None:
    chosen, rows, why = told([row("float", None, status="unsupported", why="Foo: no kernel")])
    assert chosen is None and rows["float"] == "unsupported: Foo: no kernel" and "Foo: no kernel" in why
    assert choose([], "latency", [], {}).why == "there was no candidate"


@pytest.mark.parametrize(
    ("gate", "chosen"),
    [
        ({"metric": "latency_p50_ms", "at_most": 5}, "onnx/int8"),
        ({"metric": "latency_p50_ms", "at_most": 1}, None),
        ({"metric": "latency_p50_ms", "at_most": 1, "severity": "warn"}, "onnx/int8"),
        ({"metric": "accuracy", "at_least": 0.95}, None),
        ({"metric": "cold_load_ms", "at_most": 100}, None),
        ({"metric": "score.py:cost", "at_least": 0.5, "at_worst": 1}, "onnx/int8"),
    ],
)
def test_gates_on_the_search_set(gate: dict[str, Any], chosen: str | None) -> None:
    assert told([row("float", 8.0), row("int8", 3.0)], gates=[Gate(**gate)])[0] == chosen


def test_each_row_is_held_against_the_source_on_its_own_cases() -> None:
    rows = [row("float", 8.0), row("int8", 3.0, 0.85)]
    sources = {"onnx/float": {"accuracy": 0.90}, "onnx/int8": {"accuracy": 0.86}}
    assert choose(rows, "latency", [MARGIN], sources).chosen == "onnx/int8"


def test_a_choice_by_invalid_times_says_so() -> None:
    doubtful = LatencyRow(
        samples_ms=[3.0], runs=1, warmup_runs=1, seconds=1.0, threads=1, shape="1x64", protocol="quick", valid=False,
        reasons=["other work ran"],
    )  # fmt: skip
    chosen, _, why = told([row("float", 8.0), row("int8", 3.0, latency=doubtful)])
    assert chosen == "onnx/int8"
    assert why.endswith("INVALID times of onnx/int8 took part: another may be faster on a quiet device")


def test_least_processor_time_decides_when_the_energy_proxy_is_asked() -> None:
    def spent(name: str, p50: float, processor: float) -> CandidateRow:
        found = row(name, p50)
        time = Measurement("processor_ms", processor, "ms", 20, "measured", "here", (processor - 0.1, processor + 0.1))
        return found.model_copy(update={"metrics": [*found.metrics, time.to_json()]})

    rows = [spent("float", 8.0, 30.0), spent("wide", 2.0, 16.0), spent("narrow", 3.0, 9.0), spent("hot", 7.0, 31.0)]
    chosen, told_rows, why = told(rows, "energy-proxy")
    assert chosen == "onnx/narrow" and "processor time 9 ms" in why
    assert told_rows["wide"] == "eligible: more processor time than onnx/narrow"
    assert told_rows["hot"] == "rejected: not less processor time than float here: 31 ms against 30 ms"
    assert told([row("float", 8.0)], "energy-proxy")[1]["float"] == "rejected: its processor time was not measured"


def test_a_limit_missed_by_invalid_times_alone_decides_nothing() -> None:
    invalid = LatencyRow(samples_ms=[1.0], runs=1, warmup_runs=1, seconds=1, threads=1, shape="", protocol="quick",
                         throttled=False, valid=False, reasons=["beside other work"])  # fmt: skip
    limit = Gate(metric="latency_p50_ms", at_most=5)  # type: ignore[call-arg]
    slow, worse = row("int8", 9.0, latency=invalid), row("static", 9.0, 0.80, latency=invalid)
    sources = dict.fromkeys(["onnx/int8", "onnx/static"], SOURCE)
    for gates in ([limit, MARGIN], [MARGIN, limit]):
        choice = choose([slow, worse], "latency", gates, sources)
        assert choice.chosen is None and choice.undecided and choice.missed == "latency_p50_ms"
        assert "nearest: onnx/int8: latency_p50_ms is 9, by INVALID times, the gate allows 5" in choice.why
        assert not choose([worse], "latency", gates, sources).undecided, "its accuracy is known"
    assert not choose([row("int8", 9.0)], "latency", [limit], sources).undecided, "its time is VALID"
