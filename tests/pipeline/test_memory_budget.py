"""A device's `max_memory_mb`: candidates are held against it by their measured peak, as against its size budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]
ON_A_BOX = ("device: local-cpu", "device: small-box.yaml")


def box(bench: Workbench) -> Workbench:
    """Ten megabytes: less than any Python process takes."""
    (bench.folder / "small-box.yaml").write_text("{name: small-box, max_memory_mb: 10}\n")
    return bench


@pytest.mark.slow
def test_what_takes_more_memory_than_the_device_has_is_not_chosen(workbench: Bench) -> None:
    """Memory is of fresh processes: INVALID times, on a busy machine, change nothing of it."""
    timed = ("optimise: size}", "optimise: size, candidates: [int8-dynamic]}")
    bench = box(workbench(replace=[ON_A_BOX, timed, ("seed: 3\n", "seed: 3\nmeasure: {protocol: quick}\n")]))
    run = bench.run("build", "recipe.yaml", timeout=600)
    assert run.returncode == 1, run.stderr
    (target,) = bench.record()["targets"]
    assert target["chosen"] is None and {row["status"] for row in target["candidates"]} == {"rejected"}
    for row in target["candidates"]:
        (peak,) = [item["value"] for item in row["metrics"] if item["metric"] == "peak_memory_mb"]
        assert row["why"] == f"{peak:.3g} MB of memory are over the budget of small-box, 10 MB"
        assert row["latency"]["runs"] > 0, "what was measured is shown all the same"


def test_where_memory_is_not_measured_the_row_says_that_the_budget_was_not_held(workbench: Bench) -> None:
    bench = box(workbench(replace=[ON_A_BOX]))
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr
    for row in bench.record()["targets"][0]["candidates"]:
        assert "not held against the memory budget of 10 MB: its memory was not measured" in row["notes"]
