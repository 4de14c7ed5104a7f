"""measure: {protocol: none}: nothing is timed, what needs a time is refused before anything runs, and the report says it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]
NONE = "measure: {protocol: none}\n"
SEED = "seed: 3\n"


@pytest.mark.parametrize(
    ("replace", "what", "hint"),
    [
        ([("optimise: size", "optimise: latency")], "nothing is timed: measure.protocol is none", "optimise: size"),
        ([("optimise: size", "optimise: energy-proxy")], "the fastest cannot be told", "protocol: quick"),
        (
            [("{metric: artifact_mb, at_most: 25}", "{metric: latency_p90_ms, at_most: 25}")],
            "latency_p90_ms is not measured",
            "leave this gate out",
        ),
        (
            [("{metric: artifact_mb, at_most: 25}", "{metric: peak_memory_mb, at_most: 900}")],
            "peak_memory_mb is not measured",
            "protocol: quick",
        ),
        (
            [("targets:", "  - prune: {method: structured, target_latency_ms: 5, heal_steps: 2}\ntargets:")],
            "target_latency_ms needs times",
            "or give ratio",
        ),
    ],
)
def test_what_needs_a_time_is_refused_at_once(
    workbench: Bench, replace: list[tuple[str, str]], what: str, hint: str
) -> None:
    bench = workbench(replace=[(SEED, SEED + NONE), *replace])
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 2
    assert what in run.stderr and hint in run.stderr and "recipe.yaml:" in run.stderr


def test_a_build_without_times_says_so_and_chooses_by_size(workbench: Bench) -> None:
    bench = workbench(replace=[(SEED, SEED + NONE)])
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    record = bench.record()
    (target,) = record["targets"]
    assert target["probe"] is None and target["conditions"]["cpu_flags"]
    for row in target["candidates"]:
        assert row["latency"] is None and not row["operators"] and row["bytes"] > 0
        assert not [item for item in row["metrics"] if item["metric"].endswith("_ms")]
    smallest = min(target["candidates"], key=lambda row: row["bytes"])
    assert target["chosen"] == smallest["name"]
    assert "no times and no memory were measured: the recipe says measure: {protocol: none}" in record["warnings"]
    said = (bench.folder / "out/tiny/report.html").read_text()
    assert "no times and no memory were measured" in said and "latency p50" not in run.stdout
    plan = bench.run("plan", "recipe.yaml")
    assert "latency" not in plan.stdout and "will run" not in plan.stdout
