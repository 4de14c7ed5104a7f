"""`bundle: {golden_rows: false}`: nothing of the data leaves the house, and the golden test still tests."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from edgeft.data.pack import image_bytes
from tests.bundle.conftest import Built, alone

pytestmark = pytest.mark.ml


def test_golden_inputs_are_built_in(private: Built) -> None:
    index = private.json("golden/index.json")
    assert index["from"] == "built in" and index["tokenizer"] is None
    files = [private.bundle / "golden" / name for name in private.json("golden/raw.json")]
    assert len(files) == index["cases"] >= 1
    given = {raw for name in ("train", "calibration", "search", "gate") for _, raw in image_bytes(private.split(name))}
    for path in private.bundle.rglob("*"):
        assert not path.is_file() or path.read_bytes() not in given
    logits = np.load(private.bundle / "golden" / index["outputs"]["logits"]["file"])
    assert logits.shape[0] == index["cases"] and np.ptp(logits) > 0


def test_the_report_shows_no_pictures(private: Built) -> None:
    assert private.bench.record()["targets"][0]["examples"], "the builder's own report shows them"
    inside, own = private.bundle / "report.html", private.bench.folder / "out/tiny/report.html"
    assert b"data:image/png" in own.read_bytes() and b"data:image/png" not in inside.read_bytes()


def test_cases_have_values_per_case_and_no_names(private: Built) -> None:
    lines = (private.bundle / "cases.csv").read_text().splitlines()
    assert lines[0].startswith("row,unit,source_right,artefact_right") and "artefact_mean_dice" in lines[0]
    names = set(private.split("gate").column("id").to_pylist()) | set(private.split("gate").column("unit").to_pylist())
    assert len(lines) == 1 + private.split("gate").num_rows
    assert not names & {cell for line in lines for cell in line.split(",")}


def test_the_golden_test_passes_without_edgeft(private: Built) -> None:
    script = private.bundle / "samples/python/golden_test.py"
    run = subprocess.run(alone("numpy,onnxruntime,PIL", script), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    run = private.bench.run("run", str(private.bundle), str(private.bundle / "golden/raw/000.png"), "--json")
    assert run.returncode == 0, "the samples left nothing behind in the bundle: " + run.stderr
