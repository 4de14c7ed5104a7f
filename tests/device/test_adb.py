"""The adb transport against a stand-in for the `adb` binary: what is called, and what each of its answers leads to.

No phone is part of these tests: see standin_adb.py for what the stand-in does and cannot show.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.device.adb import AdbLink
from edgeft.device.prepare_manifest import list_tree, read_manifest
from edgeft.device.profile import Device, Unit, bind_unit
from edgeft.device.protocol import ArtefactRefused, Job
from edgeft.device.remote_python import LOADERS
from edgeft.device.transport import run_job
from edgeft.errors import DeviceError, Exit
from tests.device.test_prepare import listed

pytestmark = pytest.mark.ml
MakeJob = Callable[..., Job]


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Path:
    """Folder of the stand-in, first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    source = Path(__file__).with_name("standin_adb.py").read_text()
    (folder / "adb").write_text(f"#!{sys.executable} -IS\n{source}")
    (folder / "adb").chmod(0o755)
    (folder / "STATE").write_text("device")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    folder = tmp_path / "phone"
    folder.mkdir()
    return folder


def device(phone: Path, **about: Any) -> Device:
    unit = {"name": "desk", "type": "pixel", "serial": "R5CT", "folder": str(phone), "python": sys.executable, **about}
    return bind_unit(Device(name="pixel", transport="adb", os="android"), Unit(**unit))


def test_a_job_on_the_phone(adb: Path, phone: Path, temporary: Path, make_job: MakeJob) -> None:
    seen: list[tuple[float, float]] = []
    result = run_job(device(phone), make_job(), lambda *step: seen.append(step))
    assert result.arrays["y"].tolist() == [[0], [2], [4], [6], [8]] and seen[-1] == (5, 5)
    assert [path.name for path in phone.iterdir()] == ["edgeft"] and list(temporary.iterdir()) == []
    called = (adb / "LOG").read_text().splitlines()
    assert called[0] == "get-state" and len([line for line in called if line.startswith("push")]) == 2
    assert {line.split()[0] for line in called} == {"get-state", "push", "shell"}
    run_job(device(phone), make_job())
    assert (adb / "LOG").read_text().count("push") == 3, "the model is there already"


@pytest.mark.parametrize(
    ("state", "what", "hint"),
    [
        ("unauthorized", "has not allowed this computer", "accept"),
        ("offline", "it is offline", "adb reconnect"),
        ("absent", "it is not connected", "plug it in"),
    ],
)
def test_a_phone_that_is_not_ready(adb: Path, phone: Path, make_job: MakeJob, state: str, what: str, hint: str) -> None:
    (adb / "STATE").write_text(state)
    with pytest.raises(DeviceError, match=what) as caught:
        run_job(device(phone), make_job())
    assert hint in caught.value.hint and "desk (R5CT)" in caught.value.where
    assert caught.value.exit_code == Exit.DEVICE and list(phone.iterdir()) == []


def test_a_phone_that_is_unplugged_mid_run(adb: Path, phone: Path, temporary: Path, make_job: MakeJob) -> None:
    run = f"open({str(adb / 'STATE')!r}, 'w').write('absent'); os.kill(os.getppid(), signal.SIGKILL); time.sleep(1)"
    with pytest.raises(DeviceError) as caught:
        run_job(device(phone), make_job(run=run))
    assert not isinstance(caught.value, ArtefactRefused) and caught.value.exit_code == Exit.DEVICE
    assert list(temporary.iterdir()) == []
    until = time.monotonic() + 20
    while jobs_left(phone) and time.monotonic() < until:  # the phone clears up by itself: nothing can be told to it
        time.sleep(0.05)
    assert jobs_left(phone) == []


def jobs_left(phone: Path) -> list[str]:
    """Job folders, archives and drafts on the phone; the cache of whole models may stay."""
    drafts = [path for kind in ("models", "runtimes") for path in (phone / "edgeft" / kind).glob("*")]
    drafts = [path for path in drafts if path.name.startswith(".") or path.suffix in (".part", ".tar")]
    return sorted(path.name for path in (*phone.glob("edgeft-job-*"), *drafts))


def test_a_full_phone(adb: Path, phone: Path, temporary: Path, make_job: MakeJob) -> None:
    """The archive that adb pushes, and what is unpacked of it, are told from a broken connection; nothing stays."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(phone)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk needs the right to mount")
    try:
        for size in (2_000_000, 200_000):  # no room for the archive; room for it, and none beside it
            job = make_job()
            job.models["model"].write_text("w" * size)
            with pytest.raises(DeviceError, match="the device's disk is full") as caught:
                run_job(device(phone), job)
            assert caught.value.exit_code == Exit.DEVICE
            assert jobs_left(phone) == [] and list(temporary.iterdir()) == []
    finally:
        subprocess.run(["umount", str(phone)], check=True)


def test_a_phone_of_another_architecture(adb: Path, phone: Path, make_job: MakeJob) -> None:
    other = "x86_64" if os.uname().machine == "aarch64" else "aarch64"
    wrong = device(phone).model_copy(update={"architecture": other})
    with pytest.raises(DeviceError, match=f"it is {os.uname().machine}, the profile says {other}") as caught:
        run_job(wrong, make_job())
    assert "edgeft devices list" in caught.value.hint and caught.value.exit_code == Exit.DEVICE
    assert jobs_left(phone) == []


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the folder is of this machine's own loader, by its name")
def test_a_prepared_folder_is_pushed_once_and_runs_the_job(
    adb: Path, phone: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A small folder whose loader hands over to this interpreter: what is pushed, linked and called is the real thing."""
    folder = tmp_path / "folder"
    for place in ("lib64", "usr/bin", "site"):
        (folder / "root" / place).mkdir(parents=True)
    loader = folder / "root" / LOADERS["x86_64"]
    loader.write_text(
        f'#!/bin/sh\nunset PYTHONHOME\necho "$3" >> {tmp_path}/started\nshift 3\nexec {sys.executable} "$@"\n'
    )
    loader.chmod(0o755)
    (folder / "root" / "usr" / "bin" / "python3.11").write_text("the loader's to run")
    (folder / "root" / "lib").symlink_to("usr")
    listed(folder, architecture="x86_64")
    monkeypatch.setattr("edgeft.device.remote_python.prepared", lambda device: folder)
    bare = device(phone, python=None).model_copy(update={"architecture": "x86_64"})
    for _ in range(2):
        assert run_job(bare, make_job()).arrays["y"].tolist() == [[0], [2], [4], [6], [8]]
    (pushed,) = (phone / "edgeft" / "runtimes").iterdir()
    assert list_tree(pushed / "root") == read_manifest(folder)["files"], "links and modes too"
    started = (tmp_path / "started").read_text().splitlines()
    assert started == [f"{pushed}/root/usr/bin/python3.11"] * 2
    called = (adb / "LOG").read_text().splitlines()
    assert len([line for line in called if line.startswith("push")]) == 4, "the folder, the model and two jobs"
    assert jobs_left(phone) == []


def test_refusals_timeouts_and_missing_runtimes(adb: Path, phone: Path, make_job: MakeJob) -> None:
    with pytest.raises(ArtefactRefused, match="no kernel for Foo"):
        run_job(device(phone), make_job(load="raise ValueError('no kernel for Foo')"))
    with pytest.raises(DeviceError, match="is not installed there"):
        run_job(device(phone), make_job(load="import abacus"))
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"did not finish within 1\.5 s"):
        run_job(device(phone), make_job(run="time.sleep(60)", timeout=1.5))
    assert time.monotonic() - start < 30
    assert [path.name for path in phone.iterdir()] == ["edgeft"]


def test_without_adb_a_serial_or_with_a_hostile_one(
    adb: Path, phone: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match="does not know which one"):
        run_job(Device(name="pixel", transport="adb"), make_job())
    for serial in ("-a", "x; reboot", "$(reboot)", "a b"):
        with pytest.raises(DeviceError, match="no serial that adb can be given"):
            AdbLink(Unit.model_construct(name="desk", type="pixel", serial=serial))
    with pytest.raises(DeviceError, match="it is not connected"):
        run_job(device(phone, serial="OTHER"), make_job())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DeviceError, match="adb is not installed") as caught:
        run_job(device(phone), make_job())
    assert "apt install adb" in caught.value.hint


def test_what_the_phone_prepares_comes_back(adb: Path, phone: Path) -> None:
    """Decoded slices through the reference on the device, with no model to send: pixels are fetched like outputs."""
    import numpy as np

    from edgeft.medical import order, reference
    from edgeft.targets.preprocessing import run_reference

    image = {"height": 6, "width": 5, "source": None, "shortest": None, "channels": 1}
    medical = {"window": [-100.0, 300.0], "orientation": "plane", "spacing": None, "invert": True}
    stated = {"image": image, "medical": medical}
    slices = [
        reference.pack(np.arange(30, dtype=np.float32).reshape(1, 6, 5) * scale, np.eye(4), scale > 10)
        for scale in (3, 12)
    ]
    found = run_reference(device(phone), slices, stated)
    assert np.array_equal(found, np.stack([reference.pixels(raw, stated, order) for raw in slices]))
    assert "models" not in (adb / "LOG").read_text()
