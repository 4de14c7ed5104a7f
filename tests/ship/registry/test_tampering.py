"""What was changed by hand is told: entries of the log, the log as a whole, files of bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.canonical import canonical_json
from edgeft.cli import main
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.log import append, digest
from edgeft.ship.registry.names import RegistryError, parse_reference
from edgeft.ship.registry.view import loose_ends, version_row, version_rows
from tests.ship.registry.conftest import Make
from tests.ship.registry.kit import make_bundle


@pytest.fixture
def filled(local: Registry, signed: Make) -> Path:
    """Four entries: trust, two additions, a promotion."""
    local.add(signed(1))
    local.add(signed(2))
    local.promote(parse_reference("tiny:1"), "production", "Ada", "good")
    return Path(local.place.location)


def entry(root: Path, number: int) -> Path:
    return root / "log" / f"{number:08d}.json"


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def reworded(path: Path, **changes: object) -> None:
    rewrite(path, canonical_json({**json.loads(path.read_bytes()), **changes}) + b"\n")


EDITS: dict[str, Callable[[Path], object]] = {
    "a byte of an entry": lambda root: rewrite(entry(root, 2), entry(root, 2).read_bytes().replace(b"tiny", b"tony")),
    "who promoted": lambda root: reworded(entry(root, 4), by="Eve", before="0" * 64),
    "the first reason": lambda root: reworded(entry(root, 1), reason="another"),
    "white space": lambda root: rewrite(entry(root, 3), entry(root, 3).read_bytes() + b"\n"),
    "an entry removed": lambda root: entry(root, 2).unlink(),
    "two exchanged": lambda root: (
        entry(root, 2).rename(root / "x"), entry(root, 3).rename(entry(root, 2)), (root / "x").rename(entry(root, 3))
    ),
    "a file beside them": lambda root: (root / "log" / "note.txt").write_text("hi"),
    "not JSON": lambda root: rewrite(entry(root, 4), b"{"),
    "a key twice": lambda root: rewrite(entry(root, 4), entry(root, 4).read_bytes().replace(b"{", b'{"by":"Eve",', 1)),
    "an unknown field": lambda root: reworded(entry(root, 4), more=1),
    "nested deeply": lambda root: rewrite(entry(root, 4), b"[" * 60000),
    "registry.json": lambda root: rewrite(root / "registry.json", b'{"format":1,"id":"another"}\n'),
    "a link": lambda root: (entry(root, 4).rename(root / "x"), entry(root, 4).symlink_to(root / "x")),
    "the last entry cut off": lambda root: entry(root, 4).unlink(),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_log_is_told_and_not_built_on(filled: Path, signed: Make, edit: str) -> None:
    assert Registry(str(filled)).read().fault == ""
    EDITS[edit](filled)
    again = Registry(str(filled))
    try:
        fault = again.read().fault
    except RegistryError as error:
        fault = str(error)
    assert fault
    with pytest.raises(RegistryError):
        again.add(signed(3))
    with pytest.raises(RegistryError):
        again.promote(parse_reference("tiny:2"), "production", "Ada", "good")
    if edit not in ("registry.json", "the last entry cut off"):  # the chain itself tells, even between look and write
        with pytest.raises(RegistryError):
            append(again.place, lambda _: {"event": "distrust", "key": "e" * 32})


def test_what_is_wrong_is_named(filled: Path) -> None:
    (filled / "log" / "note.txt").write_text("hi")
    assert Registry(str(filled)).read().fault == "log/note.txt does not belong there"
    (filled / "log" / "note.txt").unlink()
    entry(filled, 2).unlink()
    assert Registry(str(filled)).read().fault == "log/00000003.json follows a gap: 2 is missing"


def test_the_log_is_printed_as_it_lies_there(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that the hash of the last line can be noted elsewhere."""
    assert main(["registry", "log", "--registry", str(filled)]) == 0
    assert capsys.readouterr().out.encode() == b"".join(entry(filled, number).read_bytes() for number in range(1, 5))


def forge(root: Path) -> None:
    """Rewrite a reason and every hash after it: a chain that holds."""
    reworded(entry(root, 1), reason="another")
    for number in (2, 3, 4):
        reworded(entry(root, number), before=digest(entry(root, number - 1).read_bytes()))


def test_a_log_forged_whole_is_told_to_who_read_it_before(filled: Path) -> None:
    """The chain alone cannot tell: a machine that never saw the log takes it."""
    Registry(str(filled)).read()
    forge(filled)
    told = Registry(str(filled)).read().fault
    assert "entry 4 is another one than this machine read before" in told
    stranger = Registry(str(filled), index=filled.parent / "new.sqlite")
    assert stranger.read().fault == ""


def last_line(root: Path, number: int, **changes: object) -> None:
    """A well-formed entry with the right hash after the last one, written by hand."""
    line = {**json.loads(entry(root, number).read_bytes()), **changes}
    line |= {"seq": 5, "before": digest(entry(root, 4).read_bytes())}
    entry(root, 5).write_bytes(canonical_json(line) + b"\n")


def test_a_registry_in_another_ones_place_is_told(filled: Path, signed: Make) -> None:
    """And taken once the user removed what this machine remembered, as the message says."""
    registry = Registry(str(filled))
    registry.read()
    shutil.rmtree(filled)
    with pytest.raises(RegistryError, match="this is another registry than the one that was here"):
        registry.add(signed(1))
    registry.index_path.unlink()
    assert Registry(str(filled)).add(signed(1)).entry.seq == 1


FORGED = {
    "promotes what was never added": (4, {"version": "9"}),
    "promotes another bundle than the version's": (4, {"bundle": "e" * 64}),
    "rolls back to what was not there before": (4, {"event": "rollback"}),
    "adds a version that is there already, or none": (3, {}),
    "trusts a key under another one's id": (1, {"public": "e" * 64}),
    "distrusts a key that was not trusted": (1, {"event": "distrust", "key": "e" * 32}),
}


@pytest.mark.parametrize("fault", FORGED)
def test_an_entry_that_edgeft_would_not_write_is_told(filled: Path, fault: str) -> None:
    number, changes = FORGED[fault]
    last_line(filled, number, **changes)
    assert Registry(str(filled)).read().fault == f"entry 5: {fault}"


@pytest.mark.parametrize("name", ["../x", "\x1b[31mtiny", "x" * 65, "tiny\n"])
def test_an_entry_of_a_hostile_name_is_told(filled: Path, name: str) -> None:
    last_line(filled, 3, name=name)
    assert "log/00000005.json was edited" in Registry(str(filled)).read().fault


FILES = ["model.onnx", "gates.json", "recipe.resolved.yaml", "manifest.json", "golden/inputs/x.npy"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["a byte", "longer", "gone"])
def test_a_changed_bundle_is_told_and_not_promoted(filled: Path, name: str, how: str) -> None:
    registry = Registry(str(filled))
    added = registry.sound().find(parse_reference("tiny:2"))
    path = filled / "bundles" / added.bundle / name
    content = path.read_bytes()
    path.unlink()
    if how != "gone":
        path.write_bytes(content + b"x" if how == "longer" else content[:-1] + bytes([content[-1] ^ 1]))
    row = version_row(registry, registry.sound(), added, deep=True)
    assert row.faults
    if how != "a byte" or name == "manifest.json":  # seen without reading the files
        assert version_rows(registry, registry.sound(), "tiny")[1].faults
    with pytest.raises(RegistryError):
        registry.promote(parse_reference("tiny:2"), "production", "Ada", "good")
    assert version_rows(registry, registry.sound(), "tiny")[0].faults == []


def test_no_version_is_given_to_a_bundle_that_was_damaged_here(filled: Path, signed: Make) -> None:
    """The one that is added is whole, but stored before, and what is stored is what a version would name."""
    registry = Registry(str(filled))
    stored = registry.sound().find(parse_reference("tiny:2")).bundle
    (filled / "bundles" / stored / "model.onnx").unlink()
    with pytest.raises(RegistryError, match=r"the bundle was changed: model\.onnx is missing"):
        registry.add(signed(2), "other")
    assert "other" not in registry.sound().names


def test_a_manifest_written_anew_is_told(local: Registry, tmp_path: Path) -> None:
    """A refused bundle made to say that it passed, in sound canonical form: it is not the one of its digest."""
    added = local.add(make_bundle(tmp_path / "bundle", gate="FAIL"))
    manifest = Path(local.place.location) / "bundles" / added.stored.digest / "manifest.json"
    rewrite(manifest, manifest.read_bytes().replace(b'"status": "failed"', b'"status": "passed"'))
    row = version_row(local, local.sound(), added.entry)
    assert row.faults == ["its manifest was changed"]
    with pytest.raises(RegistryError, match="its manifest was changed"):
        local.promote(parse_reference("tiny:1"), "production", "Ada", "good")


def test_better_figures_of_the_same_length_are_told_and_not_shown(filled: Path) -> None:
    """By `list` on a machine that has no index yet; it takes no hash of the other files."""
    registry = Registry(str(filled), index=filled.parent / "new.sqlite")
    added = registry.sound().find(parse_reference("tiny:1"))
    gates = filled / "bundles" / added.bundle / "gates.json"
    rewrite(gates, gates.read_bytes().replace(b'{"accuracy": 0.9}', b'{"accuracy": 1.0}'))
    row = version_rows(registry, registry.sound())[0]
    assert row.faults == ["gates.json is not the file that was bundled"]
    assert row.facts is not None and row.facts.metrics == {}


def test_a_file_too_many_a_link_and_a_lost_folder_are_told(filled: Path) -> None:
    registry = Registry(str(filled))
    state = registry.sound()
    one, two = (state.find(parse_reference(f"tiny:{number}")).bundle for number in (1, 2))
    (filled / "bundles" / one / "extra.sh").write_text("true")
    shutil.rmtree(filled / "bundles" / two)
    faults = [row.faults[0] for row in version_rows(registry, state)]
    assert faults == ["extra.sh does not belong to the bundle", "the bundle is gone"]
    (filled / "bundles" / one / "extra.sh").unlink()
    model = filled / "bundles" / one / "model.onnx"
    model.rename(filled / "model.onnx")
    model.symlink_to(filled / "model.onnx")
    assert version_rows(registry, state)[0].faults == ["model.onnx is not the file that was bundled"]


def test_what_lies_there_by_hand_is_said_and_not_used(filled: Path, tmp_path: Path) -> None:
    (filled / "bundles" / ("d" * 64)).mkdir()
    registry = Registry(str(filled))
    assert ["1 of bundles/" in text for text in loose_ends(registry, registry.sound())] == [True]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(RegistryError, match=r"holds other things \(thesis.txt\)"):
        Registry(str(tmp_path / "other")).trust(bytes(32), "Ada", "x")


def test_the_index_is_never_the_truth(filled: Path) -> None:
    """Damaged, removed or not writable: the same answers."""
    registry = Registry(str(filled))
    rows = [row.to_json() for row in version_rows(registry, registry.sound())]
    for damage in (lambda path: path.write_bytes(b"not a database" * 100), lambda path: path.unlink()):
        registry.index.close()
        damage(registry.index_path)
        registry = Registry(str(filled))
        assert [row.to_json() for row in version_rows(registry, registry.sound())] == rows
    blocked = filled.parent / "file"
    blocked.write_text("in the way")
    registry = Registry(str(filled), index=blocked / "index.sqlite")
    assert [row.to_json() for row in version_rows(registry, registry.sound())] == rows
