"""The user's machines: strict file, private permissions, nothing in it that a shell or ssh could mistake."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.device.pick import find_units, require_units, resolve_device
from edgeft.device.profile import load_device
from edgeft.device.units import add_unit, make_unit, read_units, remove_unit, units_path
from edgeft.errors import DeviceError, Exit, RecipeError


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "units.yaml"
    monkeypatch.setenv("EDGEFT_UNITS", str(path))
    return path


def pi(name: str = "kitchen", host: str = "pi@kitchen.local") -> None:
    add_unit(make_unit({"name": name, "type": "raspberry-pi-5", "host": host}, "test"))


def test_written_for_the_user_only_and_read_again(file: Path) -> None:
    assert read_units() == {}
    pi()
    add_unit(make_unit({"name": "desk", "type": "pixel-8", "serial": "39281FDJH00123"}, "test"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    units = read_units()
    assert list(units) == ["desk", "kitchen"]
    assert units["kitchen"].host == "pi@kitchen.local" and units["desk"].serial == "39281FDJH00123"
    assert not list(file.parent.glob(".*")), "no drafts are left"
    remove_unit("desk")
    remove_unit("kitchen")
    assert read_units() == {}


def test_comments_and_a_link_survive_a_change(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.yaml"
    real.write_text("# mine\nkitchen:  # by the window\n  type: raspberry-pi-5\n  host: pi@kitchen\n")
    file.parent.mkdir()
    file.symlink_to(real)
    pi("attic", "attic")
    text = real.read_text()
    assert file.is_symlink() and "# mine" in text and "# by the window" in text and "attic" in text
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    remove_unit("attic")
    assert set(read_units()) == {"kitchen"}


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("kitchen: {type: raspberry-pi-5, hots: pi}\n", "a unit has no key 'hots'", "did you mean 'host'?"),
        ("kitchen: {host: pi}\n", "type: Field required", ""),
        ("kitchen: {name: other, type: raspberry-pi-5}\n", "its name stands before the colon", ""),
        ("kitchen: pi@kitchen\n", "a unit is a mapping", ""),
        ("Kitchen Pi: {type: raspberry-pi-5}\n", "name: ", ""),
        ("7: {type: raspberry-pi-5}\n", "name: ", ""),
        ("kitchen: {type: raspberry-pi-5, port: 70000}\n", "port: ", ""),
        ("kitchen: {type: raspberry-pi-5, port: true}\n", "port: ", ""),
        ("kitchen: {type: mine.yaml, host: pi}\n", "give its whole path", ""),
        ("- kitchen\n", "mapping of keys", ""),
        ("a: &a {type: pixel-8}\nb: *a\n", "aliases", ""),
        ("a: {type: pixel-8}\na: {type: pixel-8}\n", "not valid YAML", ""),
        ("a: !!python/name:os.system\n", "not valid YAML", ""),
    ],
)
def test_mistakes_name_file_unit_and_key(file: Path, text: str, what: str, hint: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_units()
    assert what in caught.value.what and hint in caught.value.hint
    assert caught.value.where.startswith(str(file)) and caught.value.exit_code == Exit.USAGE
    before = file.read_text()
    with pytest.raises(RecipeError):
        pi()
    assert file.read_text() == before, "a file that cannot be read is not overwritten"


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=id", "pi@-oProxyCommand=id", "a b", "a;id", "$(id)", "`id`", "a|id", "a'b", 'a"b', "a\nb", "a\\b",
        "a&b", "a>b", "", "@host", "a@b@c", "a/b", "a*", "{a,b}", "a\u00a0b",
    ],
)  # fmt: skip
def test_a_host_that_ssh_or_a_shell_could_mistake_is_refused(host: str) -> None:
    with pytest.raises(RecipeError, match="host: "):
        make_unit({"name": "a", "type": "raspberry-pi-5", "host": host}, "test")


@pytest.mark.parametrize("host", ["kitchen", "pi@kitchen.local", "192.168.1.7", "fe80::1%eth0", "::1", "lab_user@pi-5"])
def test_hosts_that_are_taken(host: str) -> None:
    assert make_unit({"name": "a", "type": "raspberry-pi-5", "host": host}, "test").host == host


@pytest.mark.parametrize(
    ("key", "value"),
    [("python", "-c"), ("python", "python3; id"), ("folder", "~/x"), ("folder", "$HOME"), ("folder", "a b"), ("serial", "-s"), ("serial", "a b")],
)  # fmt: skip
def test_paths_and_serials_are_one_plain_word(key: str, value: str) -> None:
    with pytest.raises(RecipeError, match=f"{key}: "):
        make_unit({"name": "a", "type": "raspberry-pi-5", key: value}, "test")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"type": "local-cpu"}, "reached by 'local' and has no units"),
        ({"type": "raspberry-pi-5"}, "it needs a host"),
        ({"type": "raspberry-pi-5", "host": "a", "serial": "b"}, "takes no serial"),
        ({"type": "pixel-8", "host": "a"}, "it needs a serial"),
        ({"type": "pixel-8", "serial": "a", "port": 5555}, "takes no port"),
        ({"type": "raspberry-pi-6", "host": "a"}, "no device is called 'raspberry-pi-6'"),
        ({"type": "raspberry-pi-5", "host": "a", "name": "pixel-8"}, "is the name of a device type"),
    ],
)
def test_what_does_not_go_with_its_type_is_not_written(file: Path, values: dict[str, object], what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        add_unit(make_unit({"name": "mine", **values}, "test"))
    assert not file.exists()


def test_taken_and_unknown_names(file: Path) -> None:
    pi()
    with pytest.raises(RecipeError, match="there is a unit 'kitchen' already") as caught:
        pi()
    assert "edgeft devices remove kitchen" in caught.value.hint and caught.value.where == str(file)
    with pytest.raises(RecipeError, match="no unit is called 'kitchne'") as caught:
        remove_unit("kitchne")
    assert caught.value.hint == "did you mean 'kitchen'?"


ADD = """
import sys
from edgeft.device.units import add_unit, make_unit
for index in range(5):
    add_unit(make_unit({"name": f"{sys.argv[1]}-{index}", "type": "raspberry-pi-5", "host": "a"}, "test"))
"""


def test_two_processes_lose_no_unit() -> None:
    children = [subprocess.Popen([sys.executable, "-c", ADD, name]) for name in ("one", "two")]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert len(read_units()) == 10


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("EDGEFT_UNITS", str(tmp_path / "plain" / "units.yaml"))
    with pytest.raises(RecipeError, match="cannot be written") as caught:
        pi()
    assert "EDGEFT_UNITS" in caught.value.hint


@pytest.mark.skipif(sys.platform in ("win32",), reason="its own folders")
def test_the_file_lies_in_the_configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEFT_UNITS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert units_path() == tmp_path / "edgeft" / "units.yaml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert units_path() == Path.home() / ".config" / "edgeft" / "units.yaml"


def test_names_in_a_recipe(tmp_path: Path) -> None:
    pi()
    mine = tmp_path / "board.yaml"
    mine.write_text("name: board\ntransport: ssh\narchitecture: aarch64\n")
    add_unit(make_unit({"name": "lab", "type": str(mine), "host": "lab"}, "test"))
    assert resolve_device("local-cpu").unit is None
    bound = resolve_device("kitchen")
    assert bound.name == "raspberry-pi-5" and bound.unit is not None and bound.unit.name == "kitchen"
    assert [unit.name for unit in find_units(resolve_device(str(mine)))] == ["lab"]
    assert [unit.name for unit in find_units(bound)] == ["kitchen"]
    with pytest.raises(RecipeError, match="no device is called 'kitchn'") as caught:
        resolve_device("kitchn")
    assert "did you mean 'kitchen'?" in caught.value.hint


def test_no_unit_says_how_to_add_one(file: Path) -> None:
    with pytest.raises(DeviceError, match="there is no raspberry-pi-5 among your units") as caught:
        require_units(load_device("raspberry-pi-5"))
    assert caught.value.hint.startswith("edgeft devices add NAME --type raspberry-pi-5 --host ")
    assert caught.value.exit_code == Exit.DEVICE and str(file) in caught.value.what
