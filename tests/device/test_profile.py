"""Device profiles: shipped ones are valid and say where their figures come from; mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.device.profile import load_device, shipped_devices
from edgeft.errors import Exit, RecipeError

GOOD = "name: box\ndescription: a box\nthreads: 2\n"


@pytest.mark.parametrize("name", sorted(shipped_devices()))
def test_every_shipped_device_loads_and_gives_its_sources(name: str) -> None:
    device = load_device(name)
    assert device.name == name and device.description
    assert {"opset", "ir_version"} <= set(device.sources)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(GOOD)
    assert load_device(str(path)).threads == 2


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (GOOD + "thread: 1\n", "no key 'thread'", "did you mean 'threads'?"),
        (GOOD.replace("2", "0"), "threads: ", ""),
        (GOOD.replace("2", ".nan"), "threads: ", ""),
        (GOOD.replace("box\nd", "other\nd"), "name is 'other'", "make them equal"),
        ("- a\n- b\n", "mapping of keys", ""),
        ("name: [\n", "not valid YAML", ""),
        (GOOD + "threads: 3\n", "not valid YAML", ""),
        ("a: &a [x]\nb: [*a, *a]\n", "aliases", ""),
        ("name: " + "x" * 70_000, "larger than 64 KiB", ""),
        ("[" * 20_000, "not valid YAML", ""),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, what: str, hint: str) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_device(str(path))
    assert what in caught.value.what and hint in caught.value.hint
    assert caught.value.where == str(path) and caught.value.exit_code == Exit.USAGE


def test_unknown_names_get_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no device is called 'local-cpi'") as caught:
        load_device("local-cpi")
    assert "did you mean 'local-cpu'?" in caught.value.hint
    with pytest.raises(RecipeError, match="there is no device file"):
        load_device(str(tmp_path / "none.yaml"))
