"""What `edgeft build` writes is what `edgeft check` reads: margins, columns and preprocessing are in the bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

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
