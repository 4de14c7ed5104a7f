"""Targets that a person carries jobs to: exported, sized, and never passed on what nobody ran."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from edgeft.device.profile import Device, load_device
from edgeft.pipeline.checks.by_hand import what_is_left
from edgeft.recipe.schema import Target
from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]
LOCAL = "{device: local-cpu, export: [onnx], optimise: size}"
PHONE = "{device: iphone-15, export: [coreml], optimise: size}"
CLINIC = "{device: windows-clinic-pc, export: [onnx], optimise: size}"
SIZE = "{metric: artifact_mb, at_most: 25}"
ON_ANSWERS = "  - {metric: accuracy, no_worse_than: source, margin: 0.08}\n"


@pytest.mark.parametrize(
    ("replace", "what", "hint"),
    [
        ([(LOCAL, PHONE.replace(", optimise: size", ""))], "the fastest cannot be told", "optimise: size"),
        ([(LOCAL, PHONE.replace("size}", "size, search: {}}"))], "a search needs answers from there", "the ladder"),
        ([(LOCAL, PHONE.replace("size}", "size, budget: {evaluations: 4}}"))], "a search needs answers", "leave it"),
        ([(LOCAL, PHONE), (ON_ANSWERS, "")], "it would pass on its size alone", "add a gate on answers"),
        (
            [(LOCAL, PHONE), ("margin: 0.08}", "margin: 0.08, severity: warn}")],
            "no gate asks for its answers",
            "not `severity: warn`",
        ),
        (
            [(LOCAL, CLINIC), ("targets:", "  - prune: {method: structured, target_latency_ms: 5, heal_steps: 2}\ntargets:")],
            "target_latency_ms",
            "or give ratio",
        ),
    ],
)  # fmt: skip
def test_what_only_a_run_there_could_tell_is_refused_at_once(
    workbench: Bench, replace: list[tuple[str, str]], what: str, hint: str
) -> None:
    bench = workbench(replace=replace)
    run = bench.run("plan", "recipe.yaml")
    assert run.returncode == 2
    assert what in run.stderr and hint in run.stderr and "recipe.yaml:" in run.stderr


def test_a_phone_gets_its_packages_and_no_verdict(workbench: Bench) -> None:
    pytest.importorskip("coremltools")
    bench = workbench(replace=[(LOCAL, PHONE), (SIZE, f"{SIZE}\n  - {{metric: latency_p90_ms, at_most: 9}}")])
    plan = bench.run("plan", "recipe.yaml", "--json")
    assert plan.returncode == 0, plan.stderr
    known = json.loads(plan.stdout)
    assert "So the build ends INCONCLUSIVE" in known["notes"][0] and "Core ML predicts on Apple systems" in plan.stdout
    own = [row["id"] for row in known["steps"] if row["id"].startswith("iphone-15/")]
    assert own == [f"iphone-15/coreml/{name}" for name in ("float", "fp16", "int8-weights")]

    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 5, run.stderr
    out = bench.folder / "out/tiny"
    assert not (out / "targets").exists()
    folder = out / "rejected/iphone-15"
    assert (folder / "NOT-FOR-SHIPPING.txt").is_file() and (folder / "model.mlpackage/Manifest.json").is_file()
    record = bench.record()
    (target,) = record["targets"]
    assert record["status"] == "inconclusive"
    others = [opening["targets"] for opening in record["openings"]]  # of builds that share this store
    assert not any("iphone-15" in targets for targets in others), "nobody answers: the gate set stays sealed"
    assert {row["metric"]: row["status"] for row in target["verdicts"]} == {
        "artifact_mb": "PASS", "accuracy": "INCONCLUSIVE", "latency_p90_ms": "INCONCLUSIVE",
    }  # fmt: skip
    for row in target["verdicts"][1:]:
        assert row["why"] == f"not run: iphone-15 is reached by hand, its {row['metric']} is not known"
    assert [row["name"] for row in target["candidates"]] == ["coreml/float", "coreml/fp16", "coreml/int8-weights"]
    assert target["chosen"] == min(target["candidates"], key=lambda row: row["bytes"])["name"] == "coreml/int8-weights"
    for row in target["candidates"]:
        assert [item["metric"] for item in row["metrics"]] == ["artifact_mb"] and row["latency"] is row[
            "parity"
        ] is None
    left = "xported and sized only, nothing was run on iphone-15: no answers, no times, no memory"
    for said in (run.stdout, (out / "report.html").read_text(), (folder / "model_card.md").read_text()):
        assert left in said
    assert "was not run there and may not ship" in (out / "report.html").read_text()


def test_a_size_that_is_too_large_is_a_failure_all_the_same(workbench: Bench) -> None:
    bench = workbench(replace=[(LOCAL, CLINIC), ("at_most: 25", "at_most: 0.001")])
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 1, run.stderr + run.stdout
    assert not (bench.folder / "out/tiny/targets").exists()


def test_what_is_made_beside_a_target_that_runs_does_not_ship_with_it(workbench: Bench) -> None:
    """The clinic's PC is made for and weighed, this machine is judged whole; the build as a whole is undecided."""
    bench = workbench(replace=[(LOCAL, f"{LOCAL}\n  - {CLINIC}")])
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 5, run.stderr
    here, there = bench.record()["targets"]
    assert {row["status"] for row in here["verdicts"]} == {"PASS"} and here["gate_set"]["n"] > 0
    assert [row["status"] for row in there["verdicts"]] == ["PASS", "INCONCLUSIVE"] and there["gate_set"] is None
    assert there["not_run"] and not here["not_run"]
    assert bench.record()["openings"][-1]["targets"].keys() == {"local-cpu"}
    assert sorted(path.name for path in (bench.folder / "out/tiny/rejected").iterdir()) == [
        "local-cpu", "windows-clinic-pc",
    ]  # fmt: skip
    packed = bench.run(
        "profile", "out/tiny/rejected/windows-clinic-pc", "--device", "windows-clinic-pc", "--pack", "job.zip"
    )
    assert packed.returncode == 0 and (bench.folder / "job.zip").is_file(), packed.stderr
    again = bench.run("build", "recipe.yaml", "--locked")
    assert again.returncode == 5, again.stderr


def test_who_can_measure_what_was_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clinic = load_device("windows-clinic-pc")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    left = what_is_left(Target(device="our/windows-clinic-pc.yaml"), clinic)
    assert "edgeft profile BUNDLE --device our/windows-clinic-pc.yaml --pack job.zip" in left
    assert left.endswith("answers: a build for x86-clinic-pc")
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert what_is_left(Target(device="windows-clinic-pc"), clinic).endswith("local-cpu or x86-clinic-pc")
    assert not what_is_left(Target(device="d"), Device(name="d"))
