"""Jobs on this machine with runtimes that hang, crash, die and chatter: clear errors, nothing left behind."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeft.device.local import LocalTransport
from edgeft.device.process import run_process
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, Job, ignore_progress
from edgeft.device.transport import run_job, runtime_file
from edgeft.device.travel import pack_model
from edgeft.errors import DeviceError, Exit

RUNTIME = """
import os, signal, sys, time
NAME, DISTRIBUTIONS = "fake", ()
def describe(): return {"fake": "1"}
class Session:
    def __init__(self, path): self.text = open(path).read()
    def run(self, feeds):
        {run}
        return {"y": feeds["x"] * 2, "file": feeds["x"]}
    def placement(self): return {"fake": 1}
    def operators(self, runs): raise ValueError("the fake has no profiler")
    def close(self): pass
def load(path, options):
    {load}
    return Session(path)
"""


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders of jobs go here, so that what is left behind can be counted."""
    where = tmp_path / "jobs"
    where.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(where))
    return where


def job(tmp_path: Path, run: str = "pass", load: str = "pass", kind: str = "predict", timeout: float = 60.0) -> Job:
    runtime, model = tmp_path / "fake.py", tmp_path / "model.bin"
    runtime.write_text(RUNTIME.replace("{run}", run).replace("{load}", load))
    model.write_text("weights")
    feeds = {"x": np.arange(5, dtype=np.float32).reshape(5, 1)}
    settings = {"batch": 2, "runs": 8, "seconds": 0.1}
    return Job(kind, runtime, {"model": model}, {"feeds": feeds}, settings, timeout)  # type: ignore[arg-type]


def test_outputs_come_back_in_order_with_progress(tmp_path: Path, folders: Path) -> None:
    seen: list[tuple[float, float]] = []
    result = LocalTransport().run(job(tmp_path, run="print('chatter on stdout')"), lambda *step: seen.append(step))
    assert result.arrays["y"].tolist() == [[0], [2], [4], [6], [8]]
    assert set(result.arrays) == {"y", "file"}, "names that numpy.savez could mistake are safe"
    assert seen[-1] == (5, 5)
    assert list(folders.iterdir()) == []


def test_every_run_has_the_served_batch(tmp_path: Path) -> None:
    result = LocalTransport().run(job(tmp_path, run="assert len(feeds['x']) == 2, len(feeds['x'])"), ignore_progress)
    assert len(result.arrays["y"]) == 5


def test_what_the_runtime_refuses_is_a_sentence(tmp_path: Path, folders: Path) -> None:
    with pytest.raises(ArtefactRefused, match="refused the predict job: no kernel for Foo") as caught:
        LocalTransport().run(job(tmp_path, load="raise ValueError('no kernel for Foo')"), ignore_progress)
    assert caught.value.exit_code == Exit.DEVICE and "Traceback" not in caught.value.render()
    assert list(folders.iterdir()) == []


def test_a_hung_worker_is_stopped(tmp_path: Path, folders: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"did not finish within 1\.5 s"):
        LocalTransport().run(job(tmp_path, run="time.sleep(60)", timeout=1.5), ignore_progress)
    assert time.monotonic() - start < 15
    assert list(folders.iterdir()) == []


def test_a_worker_that_stops_answering_is_not_waited_for_to_the_end(tmp_path: Path, folders: Path) -> None:
    hung = replace(job(tmp_path, run="time.sleep(60)"), silence=1.5)
    with pytest.raises(DeviceError, match=r"the predict job gave no answer for 1\.5 s"):
        LocalTransport().run(hung, ignore_progress)
    assert list(folders.iterdir()) == []


def test_one_that_goes_on_answering_is_waited_for(tmp_path: Path) -> None:
    """Six seconds in all, and never three without a word."""
    code = "import time\nfor done in range(6): print({'done': done}, flush=True); time.sleep(1)"
    slow = replace(job(tmp_path), silence=3.0)
    assert run_process([sys.executable, "-S", "-c", code], slow, tmp_path, ignore_progress) == 0


def test_jobs_that_answer_cases_have_a_limit_of_silence(tmp_path: Path) -> None:
    from edgeft.artifact import Artifact
    from edgeft.targets.artifact_jobs import make_job

    (tmp_path / "model.onnx").write_bytes(b"")
    artifact = Artifact("onnx", tmp_path, "0" * 64)
    limits = {
        kind: make_job(Device(name="here"), kind, "onnxruntime", artifact, {}, {}) for kind in ("predict", "slide")
    }
    assert all(made.silence < 3600 < made.timeout for made in limits.values())


def test_the_worker_starts_no_process() -> None:
    """The host starts every fresh one: neither the worker nor what travels with it could."""
    import edgeft.runtimes
    from edgeft.device.transport import worker_files

    starts = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"}
    for path in (*worker_files(), *sorted(Path(edgeft.runtimes.__path__[0]).glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found = {name.partition(".")[0] for name in names}
            assert not found & {"subprocess", "multiprocessing", "concurrent", "pty"}, path.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in starts and not node.attr.startswith(("exec", "spawn")), path.name


@pytest.mark.parametrize(
    ("line", "what", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL", "out of memory"),
        ("os.abort()", "killed by SIGABRT", "the runtime itself crashed"),
        ("sys.stderr.write('the reason\\n'); sys.stderr.flush(); os._exit(7)", "exit code 7", "the reason"),
    ],
)
def test_a_worker_that_dies_is_explained(tmp_path: Path, folders: Path, line: str, what: str, said: str) -> None:
    with pytest.raises(DeviceError, match=what) as caught:
        LocalTransport().run(job(tmp_path, run=line), ignore_progress)
    assert not isinstance(caught.value, ArtefactRefused)
    assert said in caught.value.render()
    assert list(folders.iterdir()) == []


def test_a_raising_listener_stops_the_worker(tmp_path: Path, folders: Path) -> None:
    """Ctrl-C arrives in the host's loop: the worker may not outlive it."""

    def interrupt(done: float, total: float) -> None:
        raise KeyboardInterrupt

    pid = tmp_path / "pid"
    load = f"open({str(pid)!r}, 'w').write(str(os.getpid()))"
    with pytest.raises(KeyboardInterrupt):
        LocalTransport().run(job(tmp_path, load=load, run="time.sleep(0.3)"), interrupt)
    assert not Path(f"/proc/{pid.read_text()}").exists()
    assert list(folders.iterdir()) == []


def test_an_interpreter_that_is_not_there(tmp_path: Path, folders: Path) -> None:
    with pytest.raises(DeviceError, match="cannot start"):
        LocalTransport(python=str(tmp_path / "nowhere")).run(job(tmp_path), ignore_progress)
    assert list(folders.iterdir()) == []


@pytest.mark.parametrize("kind", ["latency", "cold", "compare"])
def test_timings_of_emulated_devices_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DeviceError, match="phone is emulated"):
        run_job(Device(name="phone", how="emulated"), job(tmp_path, kind=kind))


def test_latency_cold_placement_and_description(tmp_path: Path) -> None:
    timed = LocalTransport().run(job(tmp_path, kind="latency"), ignore_progress).data
    assert sum(len(block["ms"]) for block in timed["blocks"]) >= 8 and isinstance(timed["throttled"], bool)
    cold = LocalTransport().run(job(tmp_path, kind="cold", run="bytearray(80_000_000)"), ignore_progress).data
    assert cold["peak_mb"] > cold["before_mb"] + 60 and cold["load_ms"] > 0 and cold["first_ms"] > 0
    assert LocalTransport().run(job(tmp_path, kind="operators"), ignore_progress).data == {
        "placement": {"fake": 1}, "operators": [], "why": "the fake has no profiler",
    }  # fmt: skip
    facts = LocalTransport().run(job(tmp_path, kind="describe"), ignore_progress).data["facts"]
    assert facts["fake"] == "1" and facts["python"] == sys.version.split()[0].rstrip("+")


def test_folders_of_dead_processes_are_swept_and_of_living_ones_kept(tmp_path: Path, folders: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    space = Path("/proc/self/ns/pid").stat().st_ino if Path("/proc/self/ns/pid").exists() else 0
    names = {
        f"edgeft-job-{child.pid}-{space}-dead": False,
        f"edgeft-job-{os.getppid()}-{space}-living": True,
        f"edgeft-job-{child.pid}-{space + 1}-of-another-container": True,
        "edgeft-job-unknown": True,
    }
    for name in names:
        (folders / name).mkdir()
    LocalTransport().run(job(tmp_path), ignore_progress)
    assert {name: (folders / name).exists() for name in names} == names


def test_a_missing_runtime_is_the_devices_failure(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="the runtime is not installed there: No module named 'abacus'") as caught:
        LocalTransport().run(job(tmp_path, load="import abacus"), ignore_progress)
    assert not isinstance(caught.value, ArtefactRefused) and "-m pip install" in caught.value.hint


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("open('result.json', 'w').write('[' * 100000); os._exit(0)", "cannot be read"),
        ("open('result.json', 'w').write('[]'); os._exit(0)", "cannot be read"),
        ("open('outputs.npz', 'w').write('x'); open('result.json', 'w').write('{}'); os._exit(0)", "cannot be read"),
    ],
)
def test_a_result_that_is_none_is_refused(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        LocalTransport().run(job(tmp_path, run=written), ignore_progress)


def test_a_models_weights_travel_and_its_neighbours_do_not(tmp_path: Path) -> None:
    for name in ("model.xml", "model.bin", "other.bin", "model.onnx", "notes.txt"):
        (tmp_path / name).write_text(name)
    assert set(pack_model(tmp_path / "model.xml").files) == {"model.xml", "model.bin"}
    first = pack_model(tmp_path / "model.xml").digest
    (tmp_path / "model.bin").write_text("changed")
    assert pack_model(tmp_path / "model.xml").digest != first
    with pytest.raises(DeviceError, match="the model cannot be read"):
        pack_model(tmp_path / "nowhere.onnx")


@pytest.mark.ml
def test_outside_weights_travel_unless_they_lie_outside(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    def save(location: str) -> Path:
        tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return tmp_path / "model.onnx"

    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w").write_bytes(bytes(4))
    assert set(pack_model(save("weights/w")).files) == {"model.onnx", "weights/w"}
    with pytest.raises(DeviceError, match="outside its folder"):
        pack_model(save("../../../etc/passwd"))


def test_the_runtime_file_is_found_without_importing_it() -> None:
    assert runtime_file("onnxruntime").name == "ort.py"
    with pytest.raises(DeviceError, match="no runtime is called 'abacus'"):
        runtime_file("abacus")
