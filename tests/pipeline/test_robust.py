"""Killed, interrupted, concurrent, corrupted, offline: nothing finished is lost and nothing wrong is kept."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]

EVERYDAY = (1.5, 4.0, 6.0, 8.0)
FULL = tuple(0.5 + 0.5 * index for index in range(36))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, text_csv: Path, tiny_bert: Path) -> dict[str, str]:
    """Digests of every step of a build that nothing disturbed."""
    from tests.pipeline.conftest import RECIPE, untimed

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "recipe.yaml").write_text(untimed(RECIPE.format(model=tiny_bert, data=text_csv, method="qlora")))
    bench = Workbench(folder, folder / "store")
    run = bench.run("build", "recipe.yaml")
    assert run.returncode in (0, 1, 5), run.stderr
    return bench.digests()


def kill_and_finish(bench: Workbench, seconds: list[float]) -> dict[str, str]:
    """kill -9 the build after each of `seconds`, then let it end."""
    for wait in seconds:
        process = bench.start("build", "recipe.yaml", "--quiet")
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    run = bench.run("build", "recipe.yaml")
    assert run.returncode in (0, 1, 5), run.stderr
    return bench.digests()


def test_killed_builds_end_in_the_same_digests(workbench: Bench, uninterrupted: dict[str, str]) -> None:
    bench = workbench("qlora", fresh=True)
    assert kill_and_finish(bench, list(EVERYDAY)) == uninterrupted
    assert not list(bench.store.glob("tmp/*/*")), "a killed build's temporary files are cleared by the next one"


@pytest.mark.slow
@pytest.mark.parametrize("wait", FULL)
def test_a_build_killed_at_any_moment_ends_in_the_same_digests(
    workbench: Bench, uninterrupted: dict[str, str], wait: float
) -> None:
    assert kill_and_finish(workbench("qlora", fresh=True), [wait]) == uninterrupted


def test_ctrl_c_leaves_a_report_and_exit_code_130(workbench: Bench) -> None:
    bench = workbench("qlora", fresh=True)
    process = bench.start("build", "recipe.yaml")
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if line.startswith("run     finetune"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130, "".join(lines)
    assert bench.record()["status"] == "interrupted"
    assert not (bench.folder / "out/tiny/targets").exists()


def test_two_builds_at_once_share_one_store(workbench: Bench, uninterrupted: dict[str, str], tmp_path: Path) -> None:
    first = workbench("qlora", fresh=True)
    folder = tmp_path / "second"
    folder.mkdir()
    shutil.copy(first.folder / "recipe.yaml", folder)
    second = Workbench(folder, first.store)
    processes = [bench.start("build", "recipe.yaml") for bench in (first, second)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode in (0, 1, 5), errors
    assert first.digests() == second.digests() == uninterrupted
    states = [{row["id"]: row["state"] for row in bench.record()["steps"]} for bench in (first, second)]
    assert sorted(state["finetune"] for state in states) == ["cached", "ran"], (
        "the second waits and takes the first's result"
    )


def test_a_corrupted_object_is_named_set_aside_and_made_again(workbench: Bench, tmp_path: Path) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    shutil.copytree(bench.store, tmp_path / "own", symlinks=True)
    bench.store = tmp_path / "own"
    before = bench.digests()
    weights = bench.store / "objects" / before["merge"][:2] / before["merge"] / "model.safetensors"
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-5] ^= 0x40
    weights.write_bytes(data)
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr
    assert "model.safetensors" in run.stderr and "set aside" in run.stderr
    assert bench.digests() == before


def test_damaged_answers_on_the_gate_set_are_made_again_and_counted(workbench: Bench) -> None:
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    record = bench.record()
    row = next(row for row in record["steps"] if row["id"].startswith("gate/"))
    answers = bench.store / "objects" / row["digest"][:2] / row["digest"] / "outputs.npz"
    answers.chmod(0o644)
    answers.write_bytes(answers.read_bytes()[:-1] + b"!")
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr
    again = bench.record()
    assert next(step for step in again["steps"] if step["id"] == row["id"])["digest"] == row["digest"]
    assert len(again["openings"]) == len(record["openings"]) + 1


def test_a_failed_step_is_not_cached(workbench: Bench) -> None:
    bench = workbench(fresh=True, replace=[("learning_rate: 0.01", "target_modules: [classifier]")])
    for _ in range(2):
        run = bench.run("build", "recipe.yaml")
        assert run.returncode == 3
        assert "'classifier' is the head, which trains whole already" in run.stderr
    assert bench.record()["error"]["step"] == "finetune"


def test_offline_reaches_no_network(workbench: Bench) -> None:
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace must be installed in CI")
        pytest.skip("strace is not installed")
    bench = workbench("qlora", fresh=True)
    log = bench.folder / "strace.log"
    command = [
        "strace",
        "-f",
        "-e",
        "trace=socket,connect,bind,sendto,sendmsg",
        "-o",
        str(log),
        sys.executable,
        "-m",
        "edgeft",
    ]
    # Without CI: ONNX Runtime's telemetry keeps quiet where it sees that name, and would be missed here.
    env = {
        key: value for key, value in bench.env().items() if key not in ("HF_HUB_OFFLINE", "CI", "ORT_DISABLE_TELEMETRY")
    }
    run = subprocess.run(
        [*command, "build", "recipe.yaml", "--offline"],
        cwd=bench.folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode in (0, 1, 5), run.stderr
    # A socket alone reaches nothing. libuuid connects one to nothing to ask for the network card's address, and urllib3,
    # imported along by transformers, binds one to this machine's own ::1 to see whether IPv6 is there.
    silent = re.compile(r"socket\(|bind\(.*\"::1\"")
    reached = [
        line for line in log.read_text().splitlines() if re.search(r"AF_INET6?\b", line) and not silent.search(line)
    ]
    assert reached == []


def test_training_on_one_machine_and_compressing_on_another(workbench: Bench, tmp_path: Path) -> None:
    bench = workbench(fresh=True)
    first = bench.run("build", "recipe.yaml", "--to", "merge", "--export", "carried")
    assert first.returncode == 0, first.stderr
    assert bench.record()["status"] == "stopped"
    trained = bench.digests()
    bench.store = tmp_path / "other-machine"
    env = {**bench.env(), "ATEN_CPU_CAPABILITY": "avx2"}
    second = subprocess.run(
        [sys.executable, "-m", "edgeft", "build", "recipe.yaml", "--from", "carried"],
        cwd=bench.folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert second.returncode == 0, second.stderr
    states = {row["id"]: row["state"] for row in bench.record()["steps"]}
    assert states["finetune"] == states["merge"] == "cached"
    assert bench.digests()["merge"] == trained["merge"]
