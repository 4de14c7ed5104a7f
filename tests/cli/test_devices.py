"""`edgeft devices` as its user sees it, on this machine for real and under qemu where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeft.cli import main
from edgeft.cli.devices_probe import Found, find_differences
from edgeft.device.prepare import folder_place
from edgeft.device.profile import Device, load_device, shipped_devices
from edgeft.errors import Exit


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "units.yaml"
    monkeypatch.setenv("EDGEFT_UNITS", str(path))
    monkeypatch.setenv("EDGEFT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "120")
    return path


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `edgeft devices WORDS`."""
    code = main(["devices", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def board(tmp_path: Path, text: str) -> str:
    path = tmp_path / "board.yaml"
    path.write_text(f"name: board\n{text}")
    return str(path)


def test_list_shows_types_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "list")
    assert code == 0 and all(name in out for name in shipped_devices()) and "none; add one" in out
    assert "cortex-a76-emulated  emulated  emulated" in out
    assert ask(capsys, "add", "kitchen", "--type", "raspberry-pi-5", "--host", "pi@kitchen", "--port", "2222")[0] == 0
    _, out, _ = ask(capsys, "list")
    assert "kitchen  raspberry-pi-5  ssh pi@kitchen port 2222  free" in out
    _, out, _ = ask(capsys, "list", "--json")
    data = json.loads(out)
    assert {row["name"] for row in data["types"]} == set(shipped_devices())
    assert data["units"] == [
        {"name": "kitchen", "type": "raspberry-pi-5", "host": "pi@kitchen", "port": 2222, "used_by": None}
    ]


def make_folder(name: str) -> Path:
    """A folder where the device's prepared one would be, so far as the list looks."""
    folder = folder_place(load_device(name))
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_what_is_prepared_and_for_whom(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The board's folder holds one runtime more than the emulated core's: each is said, and neither serves the other."""
    monkeypatch.setattr("edgeft.device.prepare.machine", lambda: "x86_64")
    folder = make_folder("raspberry-pi-5")
    _, out, _ = ask(capsys, "list")
    rows = {line.split()[0]: line.split()[3] for line in out.splitlines() if "onnxruntime" in line}
    assert (rows["raspberry-pi-5"], rows["cortex-a76-emulated"], rows["local-cpu"]) == ("yes", "no", "-")
    _, out, _ = ask(capsys, "show", "raspberry-pi-5")
    said = " ".join(out.split())  # lines break where the folder's name is long
    assert f"prepared: {folder}" in said and "same core, emulated here: cortex-a76-emulated" in said
    assert "use the same folder" not in said
    _, out, _ = ask(capsys, "show", "cortex-a76-emulated")
    said = " ".join(out.split())
    assert (
        "not prepared: edgeft devices prepare cortex-a76-emulated; cortex-a53-emulated, galaxy-s24, pixel-8 use" in said
    )
    assert "has the core of raspberry-pi-5; it is a type of its own" in said
    assert "prepare" not in ask(capsys, "show", "local-cpu")[1]
    assert "nothing to prepare: under qemu it runs this" in ask(capsys, "show", "haswell-emulated")[1]


def test_prepare_says_whom_the_folder_serves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeft.device.prepare.machine", lambda: "x86_64")
    monkeypatch.setattr("edgeft.device.prepare.prepare", lambda device, **_: folder_place(device))
    assert "is ready: " in ask(capsys, "prepare", "cortex-a76-emulated")[1]
    _, out, _ = ask(capsys, "prepare", "raspberry-pi-5")
    assert (
        "sent there on first use" in out
        and "runs in a folder of its own: edgeft devices prepare cortex-a76-emulated" in out
    )
    make_folder("cortex-a76-emulated")
    assert "of its own" not in ask(capsys, "prepare", "raspberry-pi-5")[1]
    assert "the same folder serves cortex-a53-emulated" in ask(capsys, "prepare", "pixel-8")[1]


def test_a_store_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEFT_STORE", str(tmp_path / "file"))
    code, _, err = ask(capsys, "prepare", "pixel-8")
    assert code == Exit.DEVICE and "cannot be made: " in err and "Traceback" not in err


def test_list_says_who_uses_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "add", "kitchen", "--type", "raspberry-pi-5", "--host", "kitchen")
    hold = "import time; from edgeft.device.pick import *\nwith pick_unit(resolve_device('kitchen')): print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "1\n"
        assert f"in use by process {child.pid} on " in ask(capsys, "list")[1]
        row = json.loads(ask(capsys, "list", "--json")[1])["units"][0]
        assert row["used_by"]["pid"] == child.pid
        child.kill()
        child.wait()
        assert "kitchen  raspberry-pi-5  ssh kitchen  free" in ask(capsys, "list")[1], "a dead process uses nothing"


def test_show_prints_values_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "show", "raspberry-pi-5")
    assert code == 0 and "4 x Cortex-A76 at 2400 MHz" in out and "from: Raspberry Pi documentation" in out
    assert "asimddp" in out and "latency here" not in out
    assert "latency here says nothing about the device" in ask(capsys, "show", "haswell-emulated")[1]
    data = json.loads(ask(capsys, "show", "pixel-8", "--json")[1])
    assert data == json.loads(load_device("pixel-8").model_dump_json())
    assert max(len(line) for line in out.splitlines()) <= 120


def test_show_says_a_providers_options_and_no_empty_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = "providers: [qnn, cpu]\nprovider_options: {qnn: {backend_path: libQnnHtp.so, vtcm_mb: 8}}\n"
    _, out, _ = ask(capsys, "show", board(tmp_path, given))
    assert "QNNExecutionProvider: backend_path=libQnnHtp.so, vtcm_mb=8" in out
    assert "provider_options" not in ask(capsys, "show", "local-cpu")[1]


def test_add_show_and_remove_a_unit(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, out, _ = ask(capsys, "add", "desk", "--type", "pixel-8", "--serial", "39281FDJH")
    assert code == 0 and str(file) in out and "edgeft devices probe desk" in out
    assert "desk, adb 39281FDJH, free" in ask(capsys, "show", "desk")[1]
    assert ask(capsys, "remove", "desk")[0] == 0
    assert ask(capsys, "show", "desk")[0] == Exit.USAGE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "raspbery-pi-5"], "hint: did you mean 'raspberry-pi-5'?"),
        (["remove", "kitchen"], "error: no unit is called 'kitchen'"),
        (["add", "a", "--type", "raspberry-pi-5", "--host=-oProxyCommand=id"], "host: '-oProxyCommand=id' begins with '-'"),
        (["add", "a", "--type", "raspberry-pi-5"], "it needs a host"),
        (["add", "A b", "--type", "raspberry-pi-5", "--host", "a"], "error: edgeft devices add: name: "),
        (["prepare", "local-cpu"], "there is nothing to prepare for it"),
        (["prepare", "windows-clinic-pc"], "there is nothing to prepare for it"),
    ],
)  # fmt: skip
def test_mistakes_end_with_a_sentence(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, _, err = ask(capsys, *words)
    assert code == Exit.USAGE and said in err and "Traceback" not in err


def test_wait_device_is_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["devices", "probe", "local-cpu", "--wait-device", "10"])
    assert caught.value.code == 2 and "did you mean 10s or 10m?" in capsys.readouterr().err


def test_probe_without_a_unit_says_how_to_add_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, "probe", "raspberry-pi-5")
    assert code == Exit.DEVICE and "edgeft devices add NAME --type raspberry-pi-5 --host" in err


@pytest.mark.ml
def test_probe_of_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import onnxruntime

    code, out, _ = ask(capsys, "probe", board(tmp_path, "runtimes: [onnxruntime]\n"), "--json")
    data = json.loads(out)
    assert code == 0 and data["device"] == "board" and data["unit"] is None and data["differs"] == []
    assert data["runtimes"]["onnxruntime"]["onnxruntime"] == onnxruntime.__version__
    assert data["machine"]["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")


@pytest.mark.ml
def test_probe_names_what_differs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A profile that is wrong in each respect, against the machine that is there."""
    import platform

    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    text = f"architecture: {other}\nos: windows\nruntimes: [onnxruntime, abacus]\ncpu_flags: [vnni9]\n"
    text += "providers: [RknpuExecutionProvider, cpu]\nclusters: [{name: A9, cores: 999}]\n"
    code, out, _ = ask(capsys, "probe", board(tmp_path, text))
    assert code == Exit.DEVICE
    for said in (
        f"architecture: the profile says {other}, the device {platform.machine()}", "os: the profile says windows",
        "runtimes: abacus is not there", "cpu_flags: the device lacks vnni9",
        "providers: its ONNX Runtime has no RknpuExecutionProvider", "clusters: the profile has 999 cores",
    ):  # fmt: skip
        assert said in out, out
    assert "no CPUExecutionProvider" not in out and "no cpu" not in out, "its short name is as good"


@pytest.mark.ml
def test_a_missing_runtime_is_a_finding_and_none_at_all_a_failure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is not installed: the real job runs and its import fails."""
    hidden = tmp_path / "hidden"
    (hidden / "onnxruntime").mkdir(parents=True)
    (hidden / "onnxruntime" / "__init__.py").write_text("raise ImportError('No module named onnxruntime')")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    code, out, _ = ask(capsys, "probe", board(tmp_path, "runtimes: [onnxruntime]\n"))
    assert code == Exit.DEVICE and "runtimes: none of onnxruntime is there" in out
    assert "not there: No module named onnxruntime" in out


@pytest.mark.ml
@pytest.mark.skipif(
    shutil.which("qemu-x86_64-static") is None and shutil.which("qemu-x86_64") is None, reason="no qemu"
)
def test_probe_under_emulation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import platform

    if platform.machine() != "x86_64":
        pytest.skip("runs this machine's Python")
    text = "transport: emulated\narchitecture: x86_64\nemulate: Haswell\nruntimes: [onnxruntime]\ncpu_flags: [avx2]\n"
    code, out, _ = ask(capsys, "probe", board(tmp_path, text))
    assert code == 0 and "as its profile says" in out and "avx2" in out


UNREACHABLE = "127.0.0.1"
"""Port 1 there has no ssh server."""


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh")
def test_probe_of_a_host_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "add", "gone", "--type", "x86-clinic-pc", "--host", UNREACHABLE, "--port", "1")
    before = time.monotonic()
    code, _, err = ask(capsys, "probe", "gone")
    assert code == Exit.DEVICE and err.startswith("error: ") and "Traceback" not in err
    assert time.monotonic() - before < 60


@pytest.mark.parametrize(
    ("given", "machine", "fatal"),
    [
        ({"architecture": "aarch64", "os": "android"}, {"machine": "aarch64", "system": "Linux 5.15"}, 0),
        ({"architecture": "aarch64", "os": "macos"}, {"machine": "arm64", "system": "Darwin 24"}, 0),
        ({"architecture": "x86_64", "os": "windows"}, {"machine": "AMD64", "system": "Windows 11"}, 0),
        ({"architecture": "aarch64"}, {"machine": "armv7l", "system": "Linux 6"}, 1),
        ({"os": "linux"}, {"machine": "x86_64", "system": "Windows 11"}, 1),
        ({}, {"machine": "riscv64", "system": "Linux 6"}, 0),
    ],
)
def test_what_makes_it_another_device(given: dict[str, Any], machine: dict[str, str], fatal: int) -> None:
    found = Found(machine=machine, runtimes={"onnxruntime": {}})
    wrong, other = find_differences(Device(name="board", **given), found)
    assert len(wrong) == fatal and other == []


def test_cost_of_nothing_and_of_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nothing is prepared" in ask(capsys, "cost")[1]
    folder = tmp_path / "store" / "runtimes" / "aarch64-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"files": {}, "python": "3.11", "bytes": 16_000_000}))
    code, out, _ = ask(capsys, "cost")
    assert code == 0 and "16.0 MB  aarch64-0123456789abcdef" in out
    assert json.loads(ask(capsys, "cost", "--json")[1])["bytes"] == 16_000_000


@pytest.mark.parametrize("action", ["list", "show", "probe", "add", "remove", "prepare", "cost"])
def test_each_action_explains_itself(capsys: pytest.CaptureFixture[str], action: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["devices", action, "--help"])
    assert caught.value.code == 0 and f"usage: edgeft devices {action}" in capsys.readouterr().out
