"""Ways in which a store and an outcome get damaged; each says what the next build has to name, if anything."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from bench.crash_world import World, record_of
from tests.material import MEASURED

NAMED = "set aside"
"""What the build says of a damaged object or record."""


def objects_of(world: World, folder: Path, rng: Random, count: int = 1) -> list[Path]:
    """Objects of steps that come out the same each time."""
    rows = [row for row in record_of(folder)["steps"] if not row["id"].endswith(MEASURED)]
    digests = sorted({row["digest"] for row in rows})
    return [folder / "store/objects" / digest[:2] / digest for digest in rng.sample(digests, count)]


def some_file(world: World, folder: Path, rng: Random) -> Path:
    """One file of one object, writable."""
    (home,) = objects_of(world, folder, rng)
    path = rng.choice(sorted(path for path in home.rglob("*") if path.is_file()))
    path.chmod(0o644)
    return path


def some_record(world: World, folder: Path, rng: Random) -> Path:
    """The record of a step that comes out the same each time."""
    rows = [row for row in record_of(folder)["steps"] if not row["id"].endswith(MEASURED)]
    return folder / "store/steps" / f"{rng.choice(rows)['key']}.json"


def flip(path: Path, rng: Random) -> None:
    """One bit of a file turned over, its times put back."""
    about, data = path.stat(), bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def flip_object(world: World, folder: Path, rng: Random) -> str:
    """A bit of an object's file."""
    flip(some_file(world, folder, rng), rng)
    return NAMED


def truncate_object(world: World, folder: Path, rng: Random) -> str:
    """An object's file cut short."""
    path = some_file(world, folder, rng)
    os.truncate(path, rng.randrange(path.stat().st_size))
    return NAMED


def empty_object(world: World, folder: Path, rng: Random) -> str:
    """An object's file without content."""
    some_file(world, folder, rng).write_bytes(b"")
    return NAMED


def lose_file(world: World, folder: Path, rng: Random) -> str:
    """An object's file gone."""
    some_file(world, folder, rng).unlink()
    return NAMED


def lose_object(world: World, folder: Path, rng: Random) -> str:
    """An object's folder gone."""
    shutil.rmtree(objects_of(world, folder, rng)[0])
    return NAMED


def add_file(world: World, folder: Path, rng: Random) -> str:
    """A file that does not belong to its object."""
    (objects_of(world, folder, rng)[0] / "stray").write_bytes(b"x")
    return NAMED


def swap_objects(world: World, folder: Path, rng: Random) -> str:
    """Two objects in one another's places."""
    one, two = objects_of(world, folder, rng, 2)
    one.rename(one.with_name("aside"))
    two.rename(one)
    one.with_name("aside").rename(two)
    return NAMED


def lose_list(world: World, folder: Path, rng: Random) -> str:
    """An object's file list gone: the content itself still proves it whole."""
    home = objects_of(world, folder, rng)[0]
    home.with_name(f"{home.name}.files.json").unlink()
    return ""


def flip_list(world: World, folder: Path, rng: Random) -> str:
    """A bit of an object's file list."""
    home = objects_of(world, folder, rng)[0]
    flip(home.with_name(f"{home.name}.files.json"), rng)
    return ""


def flip_record(world: World, folder: Path, rng: Random) -> str:
    """A bit of a step's record."""
    flip(some_record(world, folder, rng), rng)
    return NAMED


def cut_record(world: World, folder: Path, rng: Random) -> str:
    """A step's record cut short, or empty."""
    path = some_record(world, folder, rng)
    os.truncate(path, rng.choice([0, rng.randrange(path.stat().st_size - 1)]))
    return NAMED


def swap_digests(world: World, folder: Path, rng: Random) -> str:
    """A step's record edited to name another step's object, which is whole."""
    one, two = some_record(world, folder, rng), some_record(world, folder, rng)
    first, second = json.loads(one.read_text()), json.loads(two.read_text())
    if first["digest"] == second["digest"]:
        return swap_digests(world, folder, rng)
    one.write_text(json.dumps({**first, "digest": second["digest"]}))
    return NAMED


def edit_facts(world: World, folder: Path, rng: Random) -> str:
    """A step's record edited to state other facts."""
    path = some_record(world, folder, rng)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "facts": {**content["facts"], "n": 1}}))
    return NAMED


def lose_record(world: World, folder: Path, rng: Random) -> str:
    """A step's record gone: the step runs again."""
    some_record(world, folder, rng).unlink()
    return ""


def spoil_memory(world: World, folder: Path, rng: Random) -> str:
    """The memory of file hashes damaged; it is a cache."""
    path = folder / "store/memo.sqlite"
    rng.choice([lambda: flip(path, rng), lambda: path.write_bytes(b"no database"), lambda: os.truncate(path, 5000)])()
    return ""


def tear_openings(world: World, folder: Path, rng: Random) -> str:
    """The list of gate-set openings cut in the middle of a line; told of when it is next read."""
    path = folder / "store/openings.jsonl"
    os.truncate(path, path.stat().st_size - rng.randrange(2, 40))
    return "cannot be read"


def lose_openings(world: World, folder: Path, rng: Random) -> str:
    """The list of gate-set openings gone: the count begins anew, which has to be said."""
    (folder / "store/openings.jsonl").unlink()
    return "go uncounted"


def flip_about(world: World, folder: Path, rng: Random) -> str:
    """The file that says what the folder is, without content: the store is refused by name."""
    (folder / "store/store.json").write_bytes(b"")
    return "store.json"


def stale_locks(world: World, folder: Path, rng: Random) -> str:
    """Locks and temporary folders of a process that is long dead."""
    store = folder / "store"
    for row in record_of(folder)["steps"]:
        (store / "scratch" / f"{row['key']}.lock").write_text("4194000")
        (store / "scratch" / f"{row['key']}.owner").write_text("4194000")
    (store / "store.lock").write_text("4194000")
    (store / "tmp/4194000-1-aaaaaaaa").mkdir(parents=True)
    (store / "tmp/4194000-1-aaaaaaaa/half").write_bytes(bytes(1000))
    (store / "tmp/4194000-1-aaaaaaaa.lock").write_text("")
    some_record(world, folder, rng).unlink()
    return ""


def spoil_latest(world: World, folder: Path, rng: Random) -> str:
    """The notes on what last succeeded: they only serve to say why a step runs."""
    for path in (folder / "store/latest").rglob("*.json"):
        path.write_bytes(b"{")
    some_record(world, folder, rng).unlink()
    return ""


def spoil_outcome(world: World, folder: Path, rng: Random) -> str:
    """A file of the outcome folder."""
    path = rng.choice(sorted(path for path in (folder / "out/tiny").rglob("*") if path.is_file()))
    path.write_bytes(b"")
    return ""


DAMAGES: dict[str, Callable[[World, Path, Random], str]] = {
    function.__name__: function
    for function in (
        flip_object, truncate_object, empty_object, lose_file, lose_object, add_file, swap_objects, lose_list,
        flip_list, flip_record, cut_record, swap_digests, edit_facts, lose_record, spoil_memory, tear_openings,
        lose_openings, flip_about, stale_locks, spoil_latest, spoil_outcome,
    )
}  # fmt: skip
