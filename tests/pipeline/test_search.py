"""A target that searches, by the real command on a tiny BERT: evaluations in the record, resumed, locked, refused."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.outlier_bert import plant, train_classifier
from tests.pipeline.conftest import Workbench

pytestmark = [pytest.mark.ml, pytest.mark.slow]
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


MIXED = """\
name: outliers
model: {{path: {model}, task: text-classification}}
data:
  source: csv
  path: {data}
  text: text
  label: label
  group: group
  unit: row
  fractions: {{train: 0.0, validation: 0.0, calibration: 0.1, search: 0.4, gate: 0.5}}
serve: {{batch: 1, length: 32}}
measure: {{protocol: none}}
targets:
  - {{device: local-cpu, export: [onnx], optimise: size, candidates: [int8-static], search: {{repairs: false}}}}
gates:
  - {{metric: accuracy, no_worse_than: source, margin: 0.03}}
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, text_csv: Path, tiny_bert: Path) -> Path:
    """Folder of a trained tiny BERT with outlier channels in both layers' attention."""
    folder = tmp_path_factory.mktemp("outlier-bert")
    return plant(train_classifier(tiny_bert, text_csv, folder / "plain"), folder / "planted")


def test_a_naive_int8_that_fails_ends_in_a_passing_mix(
    planted: Path, text_csv: Path, workbench: Bench, tmp_path: Path
) -> None:
    bench = workbench(fresh=True)
    recipe = bench.folder / "outliers.yaml"
    recipe.write_text(MIXED.format(model=planted, data=text_csv))
    run = bench.run("build", "outliers.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    target = bench.record("outliers")["targets"][0]
    search = target["search"]
    naive = next(row for row in search["evaluations"] if row["purpose"] == "finalist")
    assert naive["variant"] == "int8-static" and naive["passes"] is False and naive["chance"] < 0.5
    assert target["chosen"] == search["best"] and "-mixed-" in search["best"]
    found = search["sensitivity"][0]
    mix = next(row for row in search["evaluations"] if search["best"] == f"onnx/{row['variant']}")
    kept = mix["kept"]
    assert 1 <= len(kept) <= 3, kept
    assert {layer["name"] for layer in found["layers"] if layer["kept"]} >= set(kept)
    assert f"Keeping {len(kept)} of {len(found['layers'])} layers in float recovers" in found["suggestion"]
    labels = {layer["name"]: layer["label"] for layer in found["layers"]}
    assert labels[kept[0]].startswith("bert.encoder.layer.")
    assert f"in float: {labels[kept[0]]} (" in run.stdout
    assert [verdict["status"] for verdict in target["verdicts"]] == ["PASS"]


SEARCHED = ("--set", "gates.0.margin=0.04", "--set", "measure.protocol=none")


def test_the_shipped_recipe_plans_its_search_and_ends_in_the_smallest_that_passes(
    planted: Path, text_csv: Path, workbench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """edgeft:text/searched, as a user runs it, on the net whose plain static int8 fails; the margin is wider because
    534 cases of the gate set cannot show a loss of half a point to be within two."""
    bench = workbench(fresh=True)
    monkeypatch.setenv("MODEL", str(planted))
    monkeypatch.setenv("DATA", str(text_csv))
    plan = bench.run("plan", "edgeft:text/searched", "--json")
    assert plan.returncode == 0, plan.stderr
    row = next(row for row in json.loads(plan.stdout)["steps"] if row["id"] == "local-cpu/search")
    assert row["state"] == "waits" and "at most 48 evaluations or 30 minutes" in row["why"]
    run = bench.run("build", "edgeft:text/searched", *SEARCHED, timeout=1800)
    assert run.returncode == 0, run.stderr + run.stdout
    target = bench.record("searched")["targets"][0]
    search = target["search"]
    plain = {row["variant"]: row for row in search["evaluations"] if row["purpose"] == "finalist"}
    assert plain["int8-static"]["passes"] is False
    assert search["best"] == target["chosen"] and len(search["evaluations"]) <= search["budget"] == 48
    passing = [row for row in search["evaluations"] if row["passes"]]
    best = next(row for row in passing if search["best"] == f"onnx/{row['variant']}")
    assert best["cost"] == min(row["cost"] for row in passing)
    made = {row["variant"]: row["divergence"] is not None for row in search["evaluations"] if not row["kept"]}
    assert all(made[form] for form in ("int8-weights", "int4-weights", "int8-nncf")), made
    assert plain["int4-weights"]["passes"] or made["int4-weights-hqq"], "HQQ where plain rounding to 4 bits falls short"
    assert {verdict["status"] for verdict in target["verdicts"]} == {"PASS"}


def test_what_no_candidate_can_pass_shows_the_front_and_keeps_float_apart(
    planted: Path, text_csv: Path, workbench: Bench
) -> None:
    bench = workbench(fresh=True)
    text = MIXED.format(model=planted, data=text_csv)
    gate = "  - {metric: accuracy, no_worse_than: source, margin: 0.03}\n"
    recipe = text.replace(gate, gate + "  - {metric: artifact_mb, at_most: 0.1}\n")
    (bench.folder / "outliers.yaml").write_text(recipe)
    run = bench.run("build", "outliers.yaml")
    assert run.returncode == 1, run.stderr
    assert "at most 0.1" in run.stdout and "nearest refused: onnx/int8-static" in run.stdout
    assert "next: a smaller network by a step `distill`" in run.stdout
    target = bench.record("outliers")["targets"][0]
    assert target["chosen"] is None and target["search"]["front"]
    assert [row["purpose"] for row in target["search"]["evaluations"]] == ["finalist"], "no layer in float helps a size"
    apart = bench.folder / "out/outliers/rejected/local-cpu/float"
    assert (apart / "model.onnx").is_file() and (apart / "NOT-FOR-SHIPPING.txt").is_file()
    assert not (bench.folder / "out/outliers/targets").exists()


def test_a_searched_choice_is_reproduced_from_its_lock(planted: Path, text_csv: Path, workbench: Bench) -> None:
    """In another store, without a single question: the lock itself says which layers stay in float."""
    bench = workbench(fresh=True)
    (bench.folder / "outliers.yaml").write_text(MIXED.format(model=planted, data=text_csv))
    assert bench.run("build", "outliers.yaml").returncode == 0
    model = (bench.folder / "out/outliers/targets/local-cpu/model.onnx").read_bytes()
    bench.store = bench.folder / "other-store"
    run = bench.run("build", "outliers.yaml", "--locked")
    assert run.returncode == 0, run.stderr
    assert (bench.folder / "out/outliers/targets/local-cpu/model.onnx").read_bytes() == model
    record = bench.record("outliers")
    assert record["targets"][0]["search"] is None and "mixed" in record["targets"][0]["chosen"]
    steps = [row["id"] for row in record["steps"]]
    assert sum(step.endswith("/outputs") and step.startswith("local-cpu") for step in steps) == 2
    lock = bench.folder / "out/outliers/choice.lock"
    content = json.loads(lock.read_text())
    content["targets"]["local-cpu"]["variant"]["keep_float"] = ["no_such_layer"]
    lock.write_text(json.dumps(content))
    refused = bench.run("build", "outliers.yaml", "--locked")
    assert refused.returncode == 3 and "no layer is called 'no_such_layer'" in refused.stderr


KILLED_AT = 5
"""The evaluation that is asked for when the kill comes."""


def kill_in_the_search(bench: Workbench) -> set[str]:
    """Start the build and SIGKILL it while it works on evaluation 5; the steps it had finished."""
    running = bench.start("build", "outliers.yaml")
    assert running.stderr is not None
    finished, lines = set(), []
    for line in running.stderr:
        lines.append(line)
        if done := re.match(r"done +(\S+) in ", line):
            finished.add(done[1])
        if re.match(rf"note +local-cpu/search: {KILLED_AT}: ", line):
            os.kill(running.pid, signal.SIGKILL)
            break
    running.communicate()
    assert running.returncode == -signal.SIGKILL, "".join(lines)
    assert not (bench.folder / "out/outliers/record.json").exists()
    return finished


def asked(target: dict[str, Any]) -> list[dict[str, Any]]:
    """The evaluations but for the seconds they took."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in target["search"]["evaluations"]]


def test_a_search_killed_in_the_middle_ends_in_the_same_choice(planted: Path, text_csv: Path, workbench: Bench) -> None:
    bench = workbench(fresh=True)
    (bench.folder / "outliers.yaml").write_text(MIXED.format(model=planted, data=text_csv))
    finished = kill_in_the_search(bench)
    assert sum(step.startswith("local-cpu/onnx/int8-static-mixed-") for step in finished) >= 2, finished
    run = bench.run("build", "outliers.yaml")
    assert run.returncode == 0, run.stderr
    record = bench.record("outliers")
    states = {row["id"]: row["state"] for row in record["steps"]}
    assert {step: states[step] for step in finished} == dict.fromkeys(finished, "cached"), "nothing is made twice"
    assert "ran" in states.values(), states
    target = record["targets"][0]
    bench.store = bench.folder / "undisturbed"
    undisturbed = bench.run("build", "outliers.yaml")
    assert undisturbed.returncode == 0, undisturbed.stderr
    other = bench.record("outliers")["targets"][0]
    assert target["chosen"] == other["chosen"] == other["search"]["best"] and "-mixed-" in target["chosen"]
    assert asked(target) == asked(other) and len(asked(other)) > KILLED_AT
    digests = [{row["name"]: row["digest"] for row in found["candidates"]} for found in (target, other)]
    assert digests[0] == digests[1]
