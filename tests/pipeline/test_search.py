"""A target that searches, by the real command on a tiny BERT: evaluations in the record, resumed, locked, refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]
SEARCH = ("optimise: size}", "optimise: size, search: {first_cases: 16}, budget: {evaluations: 24}}")


def test_the_plan_states_the_bound_of_the_search(workbench: Bench) -> None:
    bench = workbench(replace=[SEARCH])
    plan = bench.run("plan", "recipe.yaml", "--json")
    assert plan.returncode == 0, plan.stderr
    row = next(row for row in json.loads(plan.stdout)["steps"] if row["id"] == "local-cpu/search")
    assert row["state"] == "waits" and "at most 24 evaluations" in row["why"]


def test_a_search_leaves_every_evaluation_and_a_second_build_asks_for_nothing(workbench: Bench) -> None:
    bench = workbench(replace=[SEARCH])
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr
    target = bench.record()["targets"][0]
    search = target["search"]
    assert 0 < len(search["evaluations"]) <= search["budget"] == 24
    assert [row["number"] for row in search["evaluations"]] == list(range(1, len(search["evaluations"]) + 1))
    for row in search["evaluations"]:
        assert row["why"] or row["divergence"] is not None or row["purpose"] == "layers"
    names = {row["name"] for row in target["candidates"]}
    assert search["best"] is None or search["best"] in names
    assert target["chosen"] in (search["best"], "onnx/float")
    assert search["front"] and search["unit"] == "bytes"
    again = bench.run("build", "recipe.yaml")
    assert again.returncode == 0
    record = bench.record()
    assert {row["state"] for row in record["steps"]} == {"cached"}
    assert record["targets"][0]["search"]["evaluations"] == search["evaluations"]
