"""Jobs over a real sshd on loopback: answers, errors a person can act on, nothing left on either side."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.device.prepare import machine, prepare
from edgeft.device.prepare_manifest import list_tree, read_manifest
from edgeft.device.profile import Device, Unit, bind_unit
from edgeft.device.protocol import ArtefactRefused, Job, ignore_progress
from edgeft.device.ssh import SshLink, SshTransport
from edgeft.device.transport import run_job, runtime_file
from edgeft.errors import DeviceError, Exit
from tests.device.server import SSHD, Server, free_port

pytestmark = [
    pytest.mark.ml,
    pytest.mark.skipif(not Path(SSHD).is_file(), reason="needs openssh-server: apt install openssh-server"),
]
MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Server:
    monkeypatch.setenv("EDGEFT_SSH_CONFIG", str(running.config))
    running.write_config()
    return running


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The unit's folder: what is left there can be counted."""
    folder = tmp_path / "board"
    folder.mkdir()
    return folder


def device(board: Path, **about: Any) -> Device:
    unit = {"name": "desk", "type": "pi", "host": Server.alias, "folder": str(board), "python": sys.executable, **about}
    return bind_unit(Device(name="pi", transport="ssh"), Unit(**unit))


def left(board: Path) -> list[str]:
    """Job folders and drafts on the device; the cache of whole models may stay."""
    drafts = (board / "edgeft" / "models").glob(".*") if (board / "edgeft").is_dir() else ()
    return sorted(path.name for path in (*board.glob("edgeft-job-*"), *drafts))


def test_a_real_model_answers_as_it_does_here(
    server: Server, board: Path, temporary: Path, exported: Any, tmp_path: Path
) -> None:
    from tests.exporters.tiny import make_feeds

    feeds = make_feeds(6)
    job = Job(
        "predict", runtime_file("onnxruntime"), {"model": exported.path / "model.onnx"}, {"feeds": feeds}, {"batch": 2}
    )
    seen: list[tuple[float, float]] = []
    there = run_job(device(board), job, lambda *step: seen.append(step))
    here = run_job(Device(name="here"), job)
    assert there.arrays.keys() == here.arrays.keys()
    for name, value in here.arrays.items():
        assert np.array_equal(there.arrays[name], value), "the same machine, so the same bits"
    assert seen[-1] == (6, 6)
    assert left(board) == [] and list(temporary.iterdir()) == []


def test_a_model_is_sent_once(server: Server, board: Path, make_job: MakeJob) -> None:
    sent: list[str] = []
    send = SshLink.send

    class Counting(SshLink):
        def send(self, files: Any, folder: str) -> None:
            sent.append(folder)
            send(self, files, folder)

    transport = SshTransport(device(board))
    transport.connect = lambda: Counting(device(board), device(board).unit)  # type: ignore[method-assign, arg-type]
    for _ in range(2):
        assert transport.run(make_job(), ignore_progress).arrays["y"].tolist() == [[0], [2], [4], [6], [8]]
    assert len([folder for folder in sent if "/models/" in folder]) == 1
    assert len(sent) == 3, "one model, two jobs"


def test_the_cache_keeps_to_its_limit(
    server: Server, board: Path, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeft.device.remote.CACHE_MB", 3)
    kept = []
    for number in range(3):
        job = make_job()
        job.models["model"].write_text(f"{number}" + "w" * 2_000_000)
        os.utime(job.models["model"], (number, number))
        SshTransport(device(board)).run(job, ignore_progress)
        kept.append({path.name for path in (board / "edgeft" / "models").iterdir()})
        time.sleep(1.1)  # times of folders count seconds on some systems
    assert [len(names) for names in kept] == [1, 1, 1] and len(set.union(*kept)) == 3


def test_what_the_runtime_refuses_and_what_is_missing(server: Server, board: Path, make_job: MakeJob) -> None:
    with pytest.raises(ArtefactRefused, match="no kernel for Foo"):
        run_job(device(board), make_job(load="raise ValueError('no kernel for Foo')"))
    with pytest.raises(DeviceError, match="the runtime is not installed there: No module named 'abacus'") as caught:
        run_job(device(board), make_job(load="import abacus"))
    assert not isinstance(caught.value, ArtefactRefused)
    assert "-m pip install fake-runtime" in caught.value.hint
    assert left(board) == []


def test_a_hung_worker_is_stopped_there(server: Server, board: Path, tmp_path: Path, make_job: MakeJob) -> None:
    pid = tmp_path / "pid"
    load = f"open({str(pid)!r}, 'w').write(str(os.getpid()))"
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"did not finish within 2 s") as caught:
        run_job(device(board), make_job(load=load, run="time.sleep(60)", timeout=2.0))
    assert time.monotonic() - start < 30 and caught.value.exit_code == Exit.DEVICE
    assert gone(int(pid.read_text())) and left(board) == []


def test_interrupting_the_host_stops_the_worker(
    server: Server, board: Path, temporary: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    pid = tmp_path / "pid"

    def interrupt(done: float, total: float) -> None:
        raise KeyboardInterrupt

    load = f"open({str(pid)!r}, 'w').write(str(os.getpid()))"
    with pytest.raises(KeyboardInterrupt):
        run_job(device(board), make_job(load=load, run="time.sleep(0.5)"), interrupt)
    assert gone(int(pid.read_text())) and left(board) == [] and list(temporary.iterdir()) == []


def test_a_device_that_disappears_ends_the_job_by_itself(
    tmp_path: Path, board: Path, temporary: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, pid = Server(tmp_path / "own"), tmp_path / "pid"
    monkeypatch.setenv("EDGEFT_SSH_CONFIG", str(server.config))
    killer = threading.Thread(target=lambda: (wait_for(pid), server.kill()))
    killer.start()
    load = f"open({str(pid)!r}, 'w').write(str(os.getpid()))"
    with pytest.raises(DeviceError, match=r"desk .* the connection broke") as caught:
        run_job(device(board), make_job(load=load, run="time.sleep(60)"))
    killer.join()
    assert caught.value.exit_code == Exit.DEVICE and "Traceback" not in caught.value.render()
    assert gone(int(pid.read_text())) and list(temporary.iterdir()) == []
    wait_until(lambda: left(board) == [])


def test_a_full_disk_there(server: Server, board: Path, make_job: MakeJob) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(board)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk needs the right to mount")
    try:
        job = make_job()
        job.models["model"].write_text("w" * 2_000_000)
        with pytest.raises(DeviceError, match="the device's disk is full"):
            run_job(device(board), job)
        assert left(board) == []
        with pytest.raises(DeviceError, match="the device's disk is full"):
            run_job(device(board), make_job(run="open('big', 'wb').write(bytes(2_000_000))", load="pass"))
        assert left(board) == []
    finally:
        subprocess.run(["umount", str(board)], check=True)


def test_who_cannot_be_reached_is_explained(server: Server, board: Path, make_job: MakeJob) -> None:
    def fails(what: str, **about: Any) -> DeviceError:
        with pytest.raises(DeviceError, match=what) as caught:
            run_job(device(board, **about), make_job())
        assert caught.value.exit_code == Exit.DEVICE and caught.value.hint and "desk" in caught.value.where
        return caught.value

    fails("it refuses connections", port=free_port())
    fails("its name is unknown", host="no-such-board.invalid")
    (server.folder / "empty").write_text("")
    server.write_config(UserKnownHostsFile=str(server.folder / "empty"))
    assert "by hand" in fails("its host key is not known").hint
    other = (server.folder / "user_key.pub").read_text()
    (server.folder / "other").write_text(f"[127.0.0.1]:{server.port} {other}")
    server.write_config(UserKnownHostsFile=str(server.folder / "other"))
    assert "ssh-keygen -R board" in fails("its host key is not the one known").hint
    server.write_config(IdentityFile=str(server.folder / "host_key"))
    fails("it refused the login")


def test_a_device_without_what_it_needs(server: Server, board: Path, tmp_path: Path, make_job: MakeJob) -> None:
    with pytest.raises(DeviceError, match="there is no /nowhere/python on the device"):
        run_job(device(board, python="/nowhere/python"), make_job())
    alien = tmp_path / "alien"
    alien.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(44))  # an ELF head for aarch64
    alien.chmod(0o755)
    with pytest.raises(DeviceError, match="made for another processor"):
        run_job(device(board, python=str(alien)), make_job())
    arm = device(board).model_copy(update={"architecture": "aarch64"})
    with pytest.raises(DeviceError, match="it is x86_64, the profile says aarch64"):
        run_job(arm, make_job())
    assert left(board) == []
    with pytest.raises(DeviceError, match="edgeft does not know where"):
        run_job(Device(name="pi", transport="ssh"), make_job())


@pytest.mark.parametrize("host", ["-oProxyCommand=touch owned", "a;touch owned", "$(touch owned)", "a b", "a\nb"])
def test_hostile_hosts_never_reach_ssh(host: str) -> None:
    unit = Unit.model_construct(name="desk", type="pi", host=host, port=None)
    with pytest.raises(DeviceError, match="no host that ssh can be given"):
        SshLink(Device(name="pi", transport="ssh"), unit)


def test_odd_folders_are_quoted(server: Server, tmp_path: Path, make_job: MakeJob) -> None:
    odd = tmp_path / 'it\'s $(touch owned) `touch owned`; "x"'
    odd.mkdir()
    unit = Unit.model_construct(
        name="desk", type="pi", host=Server.alias, port=None, python=sys.executable, folder=str(odd)
    )
    run_job(Device(name="pi", transport="ssh").model_copy(update={"unit": unit}), make_job())
    assert left(odd) == [] and not list(tmp_path.rglob("owned")) and not Path("owned").exists()


def test_a_folder_of_someone_else_is_refused(server: Server, board: Path, tmp_path: Path, make_job: MakeJob) -> None:
    (tmp_path / "theirs").mkdir()
    (board / "edgeft").symlink_to(tmp_path / "theirs")
    with pytest.raises(DeviceError) as caught:
        run_job(device(board), make_job())
    assert "belongs to someone else" in caught.value.render()


def gone(pid: int) -> bool:
    return wait_until(lambda: not Path(f"/proc/{pid}").exists())


def wait_for(path: Path) -> None:
    wait_until(lambda: path.is_file() and bool(path.read_text()))


def wait_until(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)
    return True


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None or machine() != "x86_64", reason="needs Debian on x86-64")
def test_a_prepared_folder_needs_nothing_on_the_device(
    server: Server, board: Path, exported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The board's own Python is never started: interpreter, libraries and runtime come with the folder, once."""
    from tests.exporters.tiny import make_feeds

    bare = device(board, python=None).model_copy(update={"architecture": "x86_64"})
    manifest = read_manifest(prepare(bare))
    model = {"model": exported.path / "model.onnx"}
    job = Job("predict", runtime_file("onnxruntime"), model, {"feeds": make_feeds(3)}, {"batch": 1})
    here, there = run_job(Device(name="here"), job), run_job(bare, job)
    for name, value in here.arrays.items():
        assert np.abs(there.arrays[name] - value).max() < 1e-4, "float32; the same kernels beside another libm"
    facts = run_job(bare, Job("describe", runtime_file("onnxruntime"))).data["facts"]
    assert facts["python"].startswith(manifest["python"]) and facts["python"] != platform.python_version()
    pushed = list((board / "edgeft" / "runtimes").iterdir())
    assert len(pushed) == 1 and list_tree(pushed[0] / "root").keys() == manifest["files"].keys()
    assert left(board) == []
