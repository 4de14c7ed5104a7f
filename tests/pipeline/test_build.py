"""The main job on a tiny model: outcome folder, cache, refusals, exit codes; every run is the real command."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]


def test_a_build_ends_in_a_bundle_and_a_report(workbench: Bench) -> None:
    bench = workbench()
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr
    out = bench.folder / "out/tiny"
    assert sorted(path.name for path in out.iterdir()) == [
        "choice.lock", "recipe.resolved.yaml", "record.json", "report.html", "split-salt.txt", "targets",
    ]  # fmt: skip
    bundle = out / "targets/local-cpu"
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, about in manifest["files"].items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == about["sha256"]
    assert {"model.onnx", "tokenizer.json", "preprocess.json", "model_card.md"} <= set(manifest["files"])
    record = bench.record()
    assert record["status"] == "passed"
    assert [verdict["status"] for verdict in record["targets"][0]["verdicts"]] == ["PASS", "PASS"]
    assert record["merge"]["candidates"][0]["taken"]
    steps = [row["id"] for row in record["steps"]]
    assert steps.count("local-cpu/onnx/float/calibrate") == 1
    assert steps.index("local-cpu/onnx/float/calibrate") < steps.index("local-cpu/onnx/int8-static")
    assert "Failed to load" not in run.stderr, "third-party noise belongs to the log file"


def test_a_second_build_is_cached_and_opens_nothing(workbench: Bench) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    openings = len(bench.record()["openings"])
    again = bench.run("build", "recipe.yaml")
    assert again.returncode == 0
    record = bench.record()
    assert {row["state"] for row in record["steps"]} == {"cached"}
    assert len(record["openings"]) == openings
    plan = bench.run("plan", "recipe.yaml", "--json")
    assert {row["state"] for row in json.loads(plan.stdout)["steps"]} == {"cached"}


def test_a_cached_rebuild_imports_nothing_that_trains_or_exports(workbench: Bench) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    command = [sys.executable, "-X", "importtime", "-m", "edgeft", "build", "recipe.yaml"]
    run = subprocess.run(command, cwd=bench.folder, env=bench.env(), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "edgeft.pipeline.build" in imported
    heavy = {"torch", "transformers", "tokenizers", "onnxruntime", "pandas", "sklearn", "scipy.stats"}
    assert imported & heavy == set()


def test_plan_says_which_part_of_the_key_changed(workbench: Bench) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    plan = bench.run("plan", "recipe.yaml", "--set", "finetune.epochs=3", "--json")
    rows = {row["id"]: row for row in json.loads(plan.stdout)["steps"]}
    assert rows["data"]["state"] == "cached"
    assert rows["finetune"]["state"] == "will run"
    assert "epochs 2" in rows["finetune"]["why"] and "3" in rows["finetune"]["why"]
    assert rows["merge"]["state"] == "waits"


def test_a_failed_gate_leaves_a_report_and_nothing_shippable(workbench: Bench) -> None:
    bench = workbench(replace=[("at_most: 25", "at_most: 0.001")])
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 1, run.stderr
    out = bench.folder / "out/tiny"
    assert (out / "report.html").is_file()
    assert not (out / "targets").exists()
    assert "0.001" in run.stdout
    record = bench.record()
    assert record["status"] == "failed"
    assert record["targets"][0]["why"]


def test_an_absolute_gate_above_what_was_reached_fails_after_one_opening(workbench: Bench) -> None:
    bench = workbench(
        replace=[("  - {metric: artifact_mb", "  - {metric: accuracy, at_least: 0.985}\n  - {metric: artifact_mb")]
    )
    run = bench.run("build", "recipe.yaml")
    assert run.returncode in (1, 5), run.stderr
    out = bench.folder / "out/tiny"
    assert not (out / "targets").exists()
    models = list(out.rglob("model.onnx"))
    assert models and all((model.parent / "NOT-FOR-SHIPPING.txt").is_file() for model in models)


def test_a_gate_that_cannot_pass_at_this_n_is_refused_before_training(workbench: Bench) -> None:
    bench = workbench(fresh=True, replace=[("margin: 0.08", "margin: 0.001")])
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 2
    assert (
        "recipe.yaml:" in run.stderr
        and "cannot pass on" in run.stderr
        and "even with no case lost it needs" in run.stderr
    )
    assert not list(bench.store.glob("scratch/*/checkpoints"))


def test_locked_reproduces_the_bytes(workbench: Bench, tmp_path: Path) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    model = (bench.folder / "out/tiny/targets/local-cpu/model.onnx").read_bytes()
    bench.store = tmp_path / "other-store"
    run = bench.run("build", "recipe.yaml", "--locked")
    assert run.returncode == 0, run.stderr
    assert (bench.folder / "out/tiny/targets/local-cpu/model.onnx").read_bytes() == model
    lock = bench.folder / "out/tiny/choice.lock"
    content = json.loads(lock.read_text())
    content["targets"]["local-cpu"]["digest"] = "0" * 64
    lock.write_text(json.dumps(content))
    refused = bench.run("build", "recipe.yaml", "--locked")
    assert refused.returncode == 3
    assert "locked is 000000000000" in refused.stderr


def test_locked_without_a_lock_is_refused_before_anything_runs(workbench: Bench) -> None:
    bench = workbench(fresh=True)
    run = bench.run("build", "recipe.yaml", "--locked")
    assert run.returncode == 2
    assert "choice.lock" in run.stderr and "run     data" not in run.stderr


def test_a_target_that_no_gate_can_stop_is_refused(workbench: Bench) -> None:
    bench = workbench()
    run = bench.run("plan", "recipe.yaml", "--set", "gates.0.severity=warn", "--set", "gates.1.severity=warn")
    assert run.returncode == 2
    assert "targets[0]" in run.stderr and "no gate can stop" in run.stderr


def test_plan_refuses_the_gate_that_the_build_would_refuse(workbench: Bench) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    run = bench.run("plan", "recipe.yaml", "--set", "gates.0.margin=0.001")
    assert run.returncode == 2 and "gates[0]" in run.stderr and "cannot pass on" in run.stderr


def test_what_does_not_fit_the_device_is_not_chosen(workbench: Bench) -> None:
    bench = workbench(replace=[("device: local-cpu", "device: small-box.yaml")])
    (bench.folder / "small-box.yaml").write_text("{name: small-box, max_artifact_mb: 0.01}\n")
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 1, run.stderr
    rows = bench.record()["targets"][0]["candidates"]
    assert {row["status"] for row in rows} == {"rejected"}
    assert "do not fit small-box" in rows[0]["why"]


def test_a_folder_that_edgeft_did_not_write_is_not_replaced(workbench: Bench) -> None:
    bench = workbench()
    own = bench.folder / "out/tiny"
    own.mkdir(parents=True)
    (own / "thesis.tex").write_text("years of work")
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 2 and "not a build's outcome" in run.stderr
    assert "data" not in run.stderr, "it is said before anything runs"
    assert (own / "thesis.tex").read_text() == "years of work"
