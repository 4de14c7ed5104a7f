"""Real processes: two writers at once, and one that is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from edgeft.ship.keys import Signer
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.names import parse_reference
from edgeft.ship.registry.view import loose_ends, version_rows
from edgeft.store.disk import remove_tree
from tests.ship.registry.conftest import Make
from tests.ship.registry.kit import make_bundle

WRITERS, EACH = 4, 3
ADD = """
import sys
from pathlib import Path
from edgeft.ship.registry.core import Registry
registry = Registry(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    print(registry.add(Path(folder)).entry.version, flush=True)
"""
PROMOTE = """
import sys
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.names import parse_reference
registry = Registry(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for version in sys.argv[2:]:
    registry.promote(parse_reference(f"tiny:{version}"), "production", "Ada", f"by process of {version}")
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that waits for a line before it writes."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def race(script: str, root: str, work: list[list[str]]) -> list[str]:
    """All of them at once; what each printed."""
    processes = [start(script, root, *items) for items in work]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(work)
    return outputs


@pytest.fixture(params=["folder", "s3"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What several processes reach."""
    return str(tmp_path / "models") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/models"


def test_adding_at_once_gives_each_its_own_version(shared_place: str, signed: Make) -> None:
    """Every writer also adds one bundle that all have."""
    root, shared = shared_place, str(signed(99))
    work = [[*(str(signed(10 * writer + item)) for item in range(1, EACH + 1)), shared] for writer in range(WRITERS)]
    printed = [output.split() for output in race(ADD, root, work)]
    own = [version for versions in printed for version in versions[:EACH]]
    together = {versions[-1] for versions in printed}
    assert len(set(own)) == WRITERS * EACH
    assert len(together) == 1
    state = Registry(root).sound()
    assert sorted(map(int, state.names["tiny"].versions)) == list(range(1, WRITERS * EACH + 2))
    assert not Registry(root).place.names(".incoming")
    assert [row.faults for row in version_rows(Registry(root), state)] == [[]] * (WRITERS * EACH + 1)


def test_the_first_additions_at_once_make_one_registry(shared_place: str, signed: Make) -> None:
    root = shared_place
    printed = race(ADD, root, [[str(signed(seed))] for seed in range(1, WRITERS + 1)])
    assert sorted(map(int, "".join(printed).split())) == list(range(1, WRITERS + 1))
    assert Registry(root).sound().fault == ""


def test_promoting_at_once_keeps_one_chain(shared_place: str, signed: Make, signer: Signer) -> None:
    registry = Registry(shared_place)
    registry.trust(signer.public, "Ada", "release key")
    for seed in range(1, WRITERS * 2 + 1):
        registry.add(signed(seed))
    race(PROMOTE, shared_place, [[str(2 * writer + 1), str(2 * writer + 2)] for writer in range(WRITERS)])
    state = Registry(shared_place).sound()
    moves = [entry for entry in state.entries if entry.event == "promote"]
    assert len(moves) == WRITERS * 2
    assert state.names["tiny"].current("production") == moves[-1].version


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_half_visible(
    tmp_path: Path, local: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version is whole or not there, and the next addition works. Most kills must hit the addition itself."""
    chance, root, left = random.Random(7), local.place.location, Counter[str]()
    for trial in range(30):
        folder = make_bundle(tmp_path / f"big-{trial}", 40_000 + trial)  # 10 MB
        process = start(ADD, root, str(folder))
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(chance.uniform(0, 0.08))
        process.kill()
        process.communicate()
        registry = Registry(root)
        before = version_rows(registry, registry.sound())
        assert [row.faults for row in before] == [[]] * len(before)
        ends = " ".join(loose_ends(registry, registry.sound()))
        added = registry.add(folder)
        left[
            "version" if added.again else "bundle" if not added.stored.new else "draft" if "1 in" in ends else "-"
        ] += 1
        after = version_rows(registry, registry.sound())
        assert len(after) == len(before) + (not added.again)
        assert [row.faults for row in after] == [[]] * len(after)
        remove_tree(Path(root) / ".incoming")
    with capsys.disabled():
        print(f"\n  30 kills left: {dict(left)}")
    assert left["draft"] + left["bundle"] > 0


def test_a_killed_addition_leaves_a_draft_that_nobody_sees(local: Registry, signed: Make) -> None:
    """Stopped between the bundle and the log: stored, in no version, and taken up by the next addition."""
    folder = signed(1)
    script = """
import os, sys
from pathlib import Path
from edgeft.ship.registry import log
from edgeft.ship.registry.core import Registry
log.append = lambda place, make: os.kill(os.getpid(), 9)
Registry(sys.argv[1]).add(Path(sys.argv[2]))
"""
    done = subprocess.run([sys.executable, "-c", script, local.place.location, str(folder)])
    assert done.returncode == -signal.SIGKILL
    assert local.sound().names == {}
    assert len(local.place.names("bundles")) == 1
    added = local.add(folder)
    assert (added.stored.new, added.entry.version) == (False, "1")


def test_a_kill_while_files_are_copied(local: Registry, signed: Make) -> None:
    script = """
import os, sys
from pathlib import Path
from edgeft.ship.registry.place import LocalPlace
from edgeft.ship.registry.core import Registry
LocalPlace.publish = lambda self, draft, folder: os.kill(os.getpid(), 9)
Registry(sys.argv[1]).add(Path(sys.argv[2]))
"""
    folder = signed(1)
    done = subprocess.run([sys.executable, "-c", script, local.place.location, str(folder)])
    assert done.returncode == -signal.SIGKILL
    assert local.sound().names == {} and local.place.names("bundles") == []
    assert "1 in .incoming/" in loose_ends(local, local.sound())[0]
    assert local.add(folder).entry.version == "1"


def test_what_a_store_cannot_keep_apart_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without exclusive creation is read, not written."""
    from edgeft.ship.registry import remote
    from edgeft.ship.registry.names import RegistryError

    place = f"memory://{tmp_path.name}/apart"
    Registry(place).trust(bytes(32), "Ada", "key")
    monkeypatch.setattr(remote, "EXCLUSIVE", frozenset({"s3"}))
    assert len(Registry(place).sound().keys) == 1
    with pytest.raises(RegistryError, match="no way to create a file for one writer alone"):
        Registry(place).trust(bytes(31) + b"1", "Ada", "key")


def test_a_disk_without_links_is_refused(local: Registry, signed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.ship.registry.names import RegistryError

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(RegistryError, match="no hard links"):
        local.add(signed(1))
    assert local.sound().names == {}
    assert json.loads((Path(local.place.location) / "registry.json").read_bytes())["format"] == 1
    assert parse_reference("tiny:1").version == "1"
