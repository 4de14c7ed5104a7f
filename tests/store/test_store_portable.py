"""A folder that travels: complete on the way out, distrusted on the way in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.canonical import canonical_json
from edgeft.errors import RecipeError, StoreError
from edgeft.store import StepResult, Store, step_key

Put = Callable[..., StepResult]


@pytest.fixture
def travelled(store: Store, put: Put, tmp_path: Path) -> Path:
    """An export of two steps with a nested object."""
    steps = {"data": put("data").key, "merge": put("merge", {"m.bin": b"weights", "sub/c.json": b"{}"}).key}
    store.export(steps, tmp_path / "away", {"recipe": "name: demo", "openings": 0})
    return tmp_path / "away"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Store:
    return Store(tmp_path / "elsewhere")


def test_results_arrive_equal(store: Store, travelled: Path, elsewhere: Store) -> None:
    steps, lineage = elsewhere.import_from(travelled)
    assert lineage == {"recipe": "name: demo", "openings": 0}
    assert set(steps) == {"data", "merge"}
    for key in steps.values():
        assert elsewhere.find(key) == store.find(key)
    assert elsewhere.import_from(travelled) == (steps, lineage)


def test_an_export_is_replaced_but_other_content_is_not(
    store: Store, put: Put, travelled: Path, tmp_path: Path
) -> None:
    store.export({"only": put("other").key}, travelled, {})
    assert list(json.loads((travelled / "lineage.json").read_bytes())["steps"]) == ["only"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    with pytest.raises(RecipeError, match="not empty"):
        store.export({}, tmp_path / "home", {})
    with pytest.raises(StoreError, match="no result"):
        store.export({"x": "0" * 64}, tmp_path / "absent", {})
    assert sorted(path.name for path in tmp_path.iterdir() if "absent" in path.name) == []


def test_not_an_export_is_said(elsewhere: Store, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="edgeft build --to"):
        elsewhere.import_from(tmp_path / "nothing")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(path.read_bytes())
    path.write_bytes(canonical_json(change(data) or data, indent=1))


def object_file(folder: Path, name: str) -> Path:
    return next(folder.rglob(name))


def flip(folder: Path) -> None:
    object_file(folder, "m.bin").write_bytes(b"weightz")


def link_out(folder: Path) -> None:
    path = object_file(folder, "m.bin")
    path.unlink()
    path.symlink_to("/etc/hostname")


def link_folder(folder: Path) -> None:
    target = object_file(folder, "m.bin").parent
    target.rename(folder / "moved")
    target.symlink_to(folder / "moved", target_is_directory=True)


def link_objects(folder: Path) -> None:
    (folder / "objects").rename(folder.parent / "moved-objects")
    (folder / "objects").symlink_to(folder.parent / "moved-objects", target_is_directory=True)


def link_steps(folder: Path) -> None:
    (folder / "steps").rename(folder.parent / "moved-steps")
    (folder / "steps").symlink_to(folder.parent / "moved-steps", target_is_directory=True)


def link_lineage(folder: Path) -> None:
    (folder / "lineage.json").rename(folder / "l")
    (folder / "lineage.json").symlink_to("l")


def pipe_in(folder: Path) -> None:
    os.mkfifo(object_file(folder, "m.bin").parent / "pipe")


def lineage_pipe(folder: Path) -> None:
    (folder / "lineage.json").unlink()
    os.mkfifo(folder / "lineage.json")


def extra_file(folder: Path) -> None:
    (object_file(folder, "m.bin").parent / "extra").write_text("x")


def lost_object(folder: Path) -> None:
    for path in sorted(object_file(folder, "m.bin").parent.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder / "objects").rename(folder / "gone")


def escaping_key(folder: Path) -> None:
    edit(folder / "lineage.json", lambda data: data["steps"].update(merge="../../../etc/passwd"))


def control_name(folder: Path) -> None:
    edit(folder / "lineage.json", lambda data: data["steps"].update({"\x1b[2J": next(iter(data["steps"].values()))}))


def newer(folder: Path) -> None:
    edit(folder / "lineage.json", lambda data: data.update(format=2))


def wrong_shape(folder: Path) -> None:
    edit(folder / "lineage.json", lambda data: data.update(steps=["merge"]))


def oversize_lineage(folder: Path) -> None:
    with (folder / "lineage.json").open("ab") as stream:
        stream.write(b" " * (17 << 20))


def oversize_record(folder: Path) -> None:
    with next((folder / "steps").iterdir()).open("ab") as stream:
        stream.truncate(17 << 20)


def json_bomb(folder: Path) -> None:
    (folder / "lineage.json").write_bytes(b"[" * 2_000_000)


def other_record(folder: Path) -> None:
    for path in (folder / "steps").iterdir():
        edit(path, lambda data: data.update(facts={"accuracy": 1.0}))


def repointed_record(folder: Path) -> None:
    """A hostile sender edits a record's material and mends the hash in lineage.json."""
    import hashlib

    for path in (folder / "steps").iterdir():
        edit(path, lambda data: data["material"].update(id="quantise"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        edit(
            folder / "lineage.json", lambda data, path=path, digest=digest: data["records"].update({path.stem: digest})
        )


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (flip, "merge.*not what its digest"),
        (extra_file, "merge.*not what its digest"),
        (link_out, "symbolic link"),
        (link_folder, "is not a folder"),
        (link_objects, "objects: is a link"),
        (link_steps, "its folder is a link"),
        (link_lineage, r"lineage\.json"),
        (pipe_in, "pipe"),
        (lineage_pipe, "not a regular file"),
        (lost_object, "is not a folder"),
        (escaping_key, "which is no key"),
        (control_name, "not plain text"),
        (newer, "has format 2"),
        (wrong_shape, "'steps' is missing or not a mapping"),
        (oversize_lineage, r"lineage\.json.*larger than"),
        (oversize_record, r"steps/.*larger than"),
        (json_bomb, "nested too deeply"),
        (other_record, "not the record that lineage"),
        (repointed_record, "not the key of its material"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_tampered_folder_is_refused_by_name(
    travelled: Path, elsewhere: Store, tamper: Callable[[Path], None], named: str
) -> None:
    tamper(travelled)
    with pytest.raises(StoreError, match=named) as caught:
        elsewhere.import_from(travelled)
    assert str(travelled) in caught.value.where
    assert elsewhere.find(step_key({"id": "merge", "config": {}})) is None
    assert not any(elsewhere.layout.tmp.glob("*/work-*"))


def test_another_result_under_the_same_key_is_refused(travelled: Path, elsewhere: Store, put: Put) -> None:
    mine = put("merge", {"m.bin": b"my own"}, into=elsewhere)
    with pytest.raises(StoreError, match="exists in this store with other bytes"):
        elsewhere.import_from(travelled)
    assert elsewhere.find(mine.key) == mine
