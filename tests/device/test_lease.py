"""One process per machine: real processes race, wait, and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeft.device.duration import parse_duration
from edgeft.device.lease import read_holder, take_lease
from edgeft.device.pick import pick_unit, resolve_device
from edgeft.device.profile import Unit, load_device
from edgeft.device.units import add_unit, make_unit
from edgeft.errors import DeviceError, Exit, RecipeError

HOLD = """
import sys, time
from edgeft.device.pick import pick_unit, resolve_device
with pick_unit(resolve_device(sys.argv[1]), float(sys.argv[2])) as device:
    print(device.unit.name, flush=True)
    time.sleep(float(sys.argv[3]))
"""
"""A process that takes a unit, says which, and holds it."""
GRACE = 30.0
"""Seconds in which a fresh Python process has imported edgeft on a busy machine."""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "units.yaml"
    monkeypatch.setenv("EDGEFT_UNITS", str(path))
    add_unit(make_unit({"name": "kitchen", "type": "raspberry-pi-5", "host": "pi@kitchen.local"}, "test"))
    return path


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


def start(children: list[subprocess.Popen[str]], device: str, wait: float, hold: float) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, device, str(wait), str(hold)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    children.append(child)
    return child


def taken(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_unit_in_use_is_refused_with_who_and_since_when(children: list[subprocess.Popen[str]]) -> None:
    holder = start(children, "raspberry-pi-5", 0, 60)
    assert taken(holder) == "kitchen"
    with pytest.raises(DeviceError) as caught, pick_unit(load_device("raspberry-pi-5")):
        pass
    assert f"kitchen is in use by process {holder.pid} on " in caught.value.what and " since 20" in caught.value.what
    assert "--wait-device 10m" in caught.value.hint and caught.value.exit_code == Exit.DEVICE


def test_two_processes_race_and_one_wins(children: list[subprocess.Popen[str]]) -> None:
    racers = [start(children, "raspberry-pi-5", 0, 3) for _ in range(4)]
    ended = [racer.communicate(timeout=60) for racer in racers]
    codes = [racer.returncode for racer in racers]
    assert [out.strip() for out, _ in ended].count("kitchen") == codes.count(0) == 1
    assert sum("no raspberry-pi-5 is free" in said for _, said in ended) == 3


def test_a_killed_holder_frees_the_unit_at_once(children: list[subprocess.Popen[str]]) -> None:
    holder = start(children, "kitchen", 0, 600)
    assert taken(holder) == "kitchen"
    unit = resolve_device("kitchen").unit
    assert unit is not None and take_lease(unit) is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    left = read_holder(unit)
    assert left is not None and left.pid == holder.pid and not left.lives(), "its note is still there"
    before = time.monotonic()
    with pick_unit(load_device("raspberry-pi-5")) as device:
        assert device.unit == unit
        now = read_holder(unit)
        assert now is not None and now.pid == os.getpid() and now.lives()
    assert time.monotonic() - before < 1, "no time-out has to run"
    assert read_holder(unit) is None


def test_waiting_ends_when_the_holder_does(children: list[subprocess.Popen[str]]) -> None:
    holder = start(children, "kitchen", 0, 1.5)
    assert taken(holder) == "kitchen"
    heard: list[str] = []
    with pick_unit(load_device("raspberry-pi-5"), GRACE, heard.append) as device:
        assert device.unit is not None
    assert len(heard) == 1 and f"process {holder.pid} on " in heard[0], "said once per holder, not at each look"


def test_waiting_ends_when_its_time_is_over(children: list[subprocess.Popen[str]]) -> None:
    assert taken(start(children, "kitchen", 0, 60)) == "kitchen"
    before = time.monotonic()
    with (
        pytest.raises(DeviceError, match=r"no raspberry-pi-5 is free after 1\.2 s"),
        pick_unit(load_device("raspberry-pi-5"), 1.2),
    ):
        pass
    assert 1.2 <= time.monotonic() - before < 10


def test_a_second_unit_is_taken_while_the_first_is_used(children: list[subprocess.Popen[str]]) -> None:
    add_unit(make_unit({"name": "attic", "type": "raspberry-pi-5", "host": "attic"}, "test"))
    assert {taken(start(children, "raspberry-pi-5", 0, 60)) for _ in range(2)} == {"attic", "kitchen"}
    with (
        pytest.raises(DeviceError, match=r"attic is in use .*; kitchen is in use"),
        pick_unit(load_device("raspberry-pi-5")),
    ):
        pass


def test_two_names_of_one_machine_are_one_lease() -> None:
    def unit(name: str, **values: object) -> Unit:
        return make_unit({"name": name, "type": "raspberry-pi-5", **values}, "test")

    first = take_lease(unit("a", host="pi@Box.local"))
    assert first is not None
    assert take_lease(unit("b", host="root@box.local", port=22)) is None
    other = take_lease(unit("c", host="box.local", port=2222))
    assert other is not None, "another port may be another machine behind one address"
    other.release()
    first.release()
    again = take_lease(unit("b", host="root@box.local"))
    assert again is not None
    again.release()


def test_a_lease_ends_with_an_error_inside() -> None:
    device = load_device("raspberry-pi-5")
    with pytest.raises(ZeroDivisionError), pick_unit(device):
        raise ZeroDivisionError
    with pick_unit(device) as bound:
        assert bound.unit is not None


def test_devices_without_units_need_no_lease(file: Path) -> None:
    for name in ("local-cpu", "cortex-a76-emulated", "windows-clinic-pc"):
        device = load_device(name)
        with pick_unit(device) as same:
            assert same is device
    assert not (file.parent / "leases").exists()


def test_notes_are_private_and_a_strange_one_is_ignored(file: Path) -> None:
    unit = resolve_device("kitchen").unit
    assert unit is not None
    lease = take_lease(unit)
    assert lease is not None
    (note,) = (file.parent / "leases").glob("*.json")
    assert note.stat().st_mode & 0o077 == 0
    note.write_text(json.dumps({"pid": 1, "host": "a\x1b[31mb", "since": "now", "command": "x" * 5000}))
    holder = read_holder(unit)
    assert holder is not None and "\x1b" not in holder.describe() and len(holder.describe()) < 400
    for text in ("{", "[]", '{"pid": "x"}', "null"):
        note.write_text(text)
        assert read_holder(unit) is None
    lease.release()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("1.5m", 90), (" 5s ", 5), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "10d", "-5m", "1m1h", "5m5m", "1e3s", "nan", "10m!", "999h"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|is longer than 7 days"):
        parse_duration(text)
    if text == "10":
        with pytest.raises(ValueError, match="did you mean 10s or 10m"):
            parse_duration(text)


def test_a_broken_units_file_does_not_stop_what_needs_none(file: Path) -> None:
    file.write_text("nonsense")
    with pick_unit(resolve_device("local-cpu")) as device:
        assert device.name == "local-cpu"
    with pytest.raises(RecipeError, match="mapping"):
        resolve_device("kitchen")
