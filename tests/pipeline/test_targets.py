"""Builds for devices that are not this machine: an emulated processor, and a board behind a real sshd."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.device.server import SSHD, Server
from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml

Bench = Callable[..., Workbench]
ONE_TARGET = "  - {device: local-cpu, export: [onnx], optimise: size}\n"
BOARD = """name: board
description: this machine, reached as a board is
os: linux
transport: ssh
architecture: ARCHITECTURE
runtimes: [onnxruntime]
"""
UNITS = """bench-board:
  type: TYPE
  host: board
  python: PYTHON
"""
ON_BOARD = "  - {device: board.yaml, export: [onnx], candidates: [int8-dynamic], optimise: latency}\n"


def metrics(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["metric"]: item for item in row["metrics"]}


@pytest.mark.skipif(shutil.which("qemu-x86_64-static") is None, reason="needs qemu: apt install qemu-user-static")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="imitates an older x86 on an x86 machine")
def test_an_emulated_target_answers_some_cases_and_is_never_timed(workbench: Bench) -> None:
    second = "  - {device: haswell-emulated, export: [onnx], candidates: [int8-dynamic], optimise: size}\n"
    bench = workbench(
        "lora",
        replace=[
            (ONE_TARGET, ONE_TARGET + second + "measure: {emulated_minutes: 0.0005, protocol: none}\n"),
            ("margin: 0.08", "margin: 0.25"),
        ],
    )
    done = bench.run("build", "recipe.yaml")
    assert done.returncode in (0, 1, 5), done.stderr
    here, there = bench.record()["targets"]
    assert (here["how"], there["how"]) == ("measured", "emulated")
    assert "haswell" in there["device"]
    for row in there["candidates"]:
        assert row["latency"] is None and not row["operators"]
        assert metrics(row)["accuracy"]["how"] == "emulated"
        assert "latency_p50_ms" not in metrics(row)
        assert metrics(row)["accuracy"]["n"] < metrics(here["candidates"][0])["accuracy"]["n"]
    assert there["probe"] is None and "avx512_vnni" not in there["conditions"]["cpu_flags"]
    assert here["probe"] is None and all(row["latency"] is None for row in here["candidates"]), "by the recipe"
    same = {row["candidate"]: row for row in there["differences"]}
    assert same["onnx/float"]["max_abs"] < 1e-3
    assert same["onnx/float"]["against"] == "local-cpu" == same["onnx/int8-dynamic"]["against"]
    answered = {row["name"]: metrics(row)["accuracy"]["n"] for row in there["candidates"]}
    assert there["gate_set"]["n"] == answered[there["chosen"]]
    again = bench.run("plan", "recipe.yaml")
    assert "will run" not in again.stdout, again.stdout


def test_int8_made_for_two_processors_is_compared_and_the_row_says_that_the_bytes_differ(workbench: Bench) -> None:
    """7-bit weights for an x86 without VNNI, 8 bits where it has them: both run here, whatever this processor is."""
    two = "".join(
        f"  - {{device: {name}.yaml, export: [onnx, ort], candidates: [int8-dynamic], optimise: size}}\n"
        for name in ("older", "newer")
    )
    bench = workbench("lora", replace=[(ONE_TARGET, two), ("margin: 0.08", "margin: 0.5")])
    for name, flags in (("older", "avx2"), ("newer", "avx2, avx512_vnni")):
        about = f"architecture: {os.uname().machine}\ncpu_flags: [{flags}]\n"
        (bench.folder / f"{name}.yaml").write_text(f"name: {name}\n{about}")
    done = bench.run("build", "recipe.yaml", "--to", "search")
    assert done.returncode in (0, 1, 5), done.stderr
    older, newer = bench.record()["targets"]
    assert older["differences"] == []
    rows = {row["candidate"]: row for row in newer["differences"]}
    assert {row["against"] for row in rows.values()} == {"older"} and len(rows) == 4
    assert {rows[f"{name}/float"]["other_bytes"] for name in ("onnx", "ort")} == {""}
    assert {rows[f"{name}/float"]["max_abs"] for name in ("onnx", "ort")} == {0}, "the same bytes on one processor"
    for name in ("onnx/int8-dynamic", "ort/int8-dynamic"):
        assert rows[name]["other_bytes"] == "reduce_range" and rows[name]["max_abs"] > 0 < rows[name]["n"]


@pytest.mark.skipif(shutil.which("qemu-x86_64-static") is None, reason="needs qemu: apt install qemu-user-static")
def test_latency_of_an_emulated_target_is_refused_at_once(workbench: Bench) -> None:
    bench = workbench("lora", replace=[(ONE_TARGET, "  - {device: haswell-emulated, export: [onnx]}\n")])
    done = bench.run("build", "recipe.yaml")
    assert done.returncode == 2
    assert "haswell-emulated is emulated: latency there means nothing" in done.stderr


@pytest.mark.skipif(not Path(SSHD).is_file(), reason="needs openssh-server: apt install openssh-server")
def test_a_build_for_a_board_behind_ssh(workbench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = workbench("lora", replace=[(ONE_TARGET, ON_BOARD)])
    profile = bench.folder / "board.yaml"
    profile.write_text(BOARD.replace("ARCHITECTURE", os.uname().machine))
    missing = bench.run("build", "recipe.yaml")
    assert missing.returncode == 4
    assert "edgeft devices add" in missing.stderr
    units = tmp_path / "units.yaml"
    units.write_text(UNITS.replace("TYPE", str(profile)).replace("PYTHON", sys.executable))
    units.chmod(0o600)
    monkeypatch.setenv("EDGEFT_UNITS", str(units))
    server = Server(tmp_path / "sshd")
    monkeypatch.setenv("EDGEFT_SSH_CONFIG", str(server.config))
    try:
        done = bench.run("build", "recipe.yaml")
        assert done.returncode in (0, 1, 5), done.stderr
        (target,) = bench.record()["targets"]
        assert target["device"] == "board"
        row = next(row for row in target["candidates"] if row["name"] == "onnx/int8-dynamic")
        assert metrics(row)["latency_p50_ms"]["how"] == "measured" and target["probe"]["gemm"]["float32"] > 1
        assert target["gate_set"]["n"] > 50
        text = (bench.folder / "out/tiny/record.json").read_text()
        assert "bench-board" not in text and str(server.port) not in text
    finally:
        server.stop()
    gone = bench.run("build", "recipe.yaml")
    assert gone.returncode == 4
    assert "board" in gone.stderr and "hint:" in gone.stderr
