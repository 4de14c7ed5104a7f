"""What `edgeft build` writes is what `edgeft check` reads: margins, columns and preprocessing are in the bundle."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from edgeft.ship.provenance import name_hash
from tests.check import kit
from tests.pipeline.conftest import Workbench, shared_store, workbench

__all__ = ["shared_store", "workbench"]
pytestmark = pytest.mark.ml


def test_a_built_bundle_says_how_it_is_checked(workbench: Callable[..., Workbench], text_csv: Path) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    released = bench.folder / "released"
    shutil.copytree(bench.folder / "out/tiny/targets/local-cpu", released)
    same = bench.run("check", "out/tiny", "--baseline", "released", "--json")
    assert same.returncode == 0 and json.loads(same.stdout)["identical"], "a cached rebuild gives the same bytes"

    model = onnx.load(str(released / "model.onnx"))
    model.producer_name = "someone else"
    onnx.save(model, str(bench.folder / "new.onnx"))
    words = ["new.onnx", "--baseline", "released", "--data", str(text_csv), "--no-latency", "--json"]
    run = bench.run("check", *words)
    assert run.returncode == 0, run.stderr
    record = json.loads(run.stdout)
    found = {row["check"]: row for row in record["verdicts"]}
    assert found["accuracy"]["limit"] == 0.08 and "released by" in found["accuracy"]["limit_from"]
    assert found["accuracy"]["n"] == 960 and "0 lost, 0 gained" in found["accuracy"]["why"]
    assert record["candidate"]["preprocessing"] == "that of the baseline's bundle"
    assert record["baseline"]["gated"] == "passed" and str(bench.folder) not in json.dumps(found)


def test_cases_a_build_trained_on_pass_nothing_once_its_salt_says_so(
    workbench: Callable[..., Workbench], text_csv: Path
) -> None:
    """What the build wrote: groups by the recipe's column, hashes in the bundle, the salt beside the report."""
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    bundle = bench.folder / "out/tiny/targets/local-cpu"
    model = onnx.load(str(bundle / "model.onnx"))
    model.producer_name = "someone else"
    onnx.save(model, str(bench.folder / "new.onnx"))
    words = ["new.onnx", "--baseline", "out/tiny", "--no-latency", "--json", "--split-salt", "out/tiny/split-salt.txt"]
    run = bench.run("check", *words, "--data", str(text_csv))
    assert run.returncode == 5, run.stderr
    record = json.loads(run.stdout)
    with (bundle / "split_groups.csv").open(newline="") as stream:
        rows = {row["group"]: row for row in csv.DictReader(stream)}
    trained = sum(int(row["rows"]) for row in rows.values() if row["split"] == "train")
    assert record["data"]["trained"] == trained > 300
    verdict = record["verdicts"][0]
    assert verdict["status"] == "INCONCLUSIVE" and f"was trained on {trained} of the 960 cases" in verdict["why"]
    assert any("what it was trained on is not known" in note for note in record["notes"]), "the candidate is bare"

    salt = bytes.fromhex((bench.folder / "out/tiny/split-salt.txt").read_text())
    with text_csv.open(newline="", encoding="utf-8") as stream:
        held = [row for row in csv.DictReader(stream) if rows[name_hash(salt, row["group"])]["split"] != "train"]
    kit.write_table(bench.folder / "held.csv", [tuple(row.values()) for row in held], list(held[0]))
    run = bench.run("check", *words, "--data", "held.csv")
    assert run.returncode == 0, run.stderr + run.stdout
    record = json.loads(run.stdout)
    assert record["data"]["trained"] == 0 and record["verdicts"][0]["status"] == "PASS"
    assert any("to choose or calibrate it" in note and "of validation" in note for note in record["notes"])
