"""Versions, stages and lineage, in a folder and in an object store."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from edgeft.canonical import canonical_json
from edgeft.errors import Exit, RecipeError
from edgeft.ship import verify
from edgeft.ship.keys import Signer, new_key
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.export import export_bundle
from edgeft.ship.registry.names import NotPromotable, RegistryError, Undecided, parse_reference
from edgeft.ship.registry.remote import RemotePlace
from edgeft.ship.registry.view import version_rows
from edgeft.ship.signature import sign_folder
from tests.ship.registry.conftest import Make
from tests.ship.registry.kit import make_bundle


def promote(registry: Registry, text: str, **options: object) -> str:
    entry = registry.promote(parse_reference(text), "production", "Ada", "because", **options)  # type: ignore[arg-type]
    return entry.version


def rollback(registry: Registry, to: str = "") -> str:
    return registry.rollback("tiny", "production", to, "Ada", "complaints").version


def test_versions_count_up_and_the_same_bundle_is_the_version_it_has(registry: Registry, signed: Make) -> None:
    folders = [signed(seed) for seed in (1, 2, 3)]
    assert [registry.add(folder).entry.version for folder in folders] == ["1", "2", "3"]
    again = registry.add(folders[1])
    assert (again.again, again.entry.version, again.stored.new) == (True, "2", False)
    assert registry.add(signed(4), version="1.0-rc").entry.version == "1.0-rc"
    assert registry.add(signed(5)).entry.version == "4"
    assert len(registry.place.names("bundles")) == 5


def test_one_bundle_under_two_names_is_stored_once(registry: Registry, signed: Make) -> None:
    folder = signed()
    registry.add(folder)
    assert registry.add(folder, name="other").stored.new is False
    assert len(registry.place.names("bundles")) == 1


def test_a_version_never_changes(registry: Registry, signed: Make) -> None:
    registry.add(signed(1), version="7")
    with pytest.raises(RecipeError, match="there already and is another bundle"):
        registry.add(signed(2), version="7")
    with pytest.raises(RecipeError, match="this bundle is tiny:7 already"):
        registry.add(signed(1), version="8")


def test_one_name_is_for_one_device(registry: Registry, signed: Make) -> None:
    registry.add(signed(1))
    with pytest.raises(RecipeError, match="tiny is for 'local-cpu', this bundle is for 'raspberry-pi-5'"):
        registry.add(signed(2, device="raspberry-pi-5"))


def test_lineage_says_recipe_data_and_parent(registry: Registry, signed: Make) -> None:
    registry.add(signed(1))
    registry.add(signed(2), parent="tiny:1")
    one, two = version_rows(registry, registry.sound())
    assert (one.parent, two.parent) == ("", "tiny:1")
    assert one.facts and two.facts
    assert one.facts.recipe != two.facts.recipe
    assert one.facts.data == {"content": "c" * 64, "gate": "a" * 64, "train": "b" * 64}
    with pytest.raises(RecipeError, match="there is no version '9' of tiny"):
        registry.add(signed(3), parent="tiny:9")


def test_promotion_and_rollback_step_back_through_what_was_released(registry: Registry, signed: Make) -> None:
    for seed in (1, 2, 3):
        registry.add(signed(seed))
        promote(registry, f"tiny:{seed}")
    current = lambda: registry.sound().find(parse_reference("tiny@production")).version  # noqa: E731
    assert current() == "3"
    assert [rollback(registry), current()] == ["2", "2"]
    assert [rollback(registry), current()] == ["1", "1"]
    with pytest.raises(RecipeError, match="held nothing before"):
        rollback(registry)
    promote(registry, "tiny:3")
    promote(registry, "tiny:2")
    assert rollback(registry, to="1") == "1"
    events = [(entry.event, entry.version) for entry in registry.sound().entries if entry.stage]
    assert events[-1] == ("rollback", "1")
    assert len(events) == 8


def test_what_is_so_already_is_not_written_again(registry: Registry, signed: Make, signer: Signer) -> None:
    registry.add(signed(1))
    promote(registry, "tiny:1")
    before = registry.sound().entries
    with pytest.raises(RecipeError, match="tiny:1 is in production already"):
        promote(registry, "tiny:1")
    with pytest.raises(RecipeError, match="is trusted already"):
        registry.trust(signer.public, "Ada", "again")
    with pytest.raises(RecipeError, match="is not trusted"):
        registry.distrust("0" * 32, "Ada", "unknown")
    assert registry.sound().entries == before


def test_rollback_only_to_what_the_stage_held(registry: Registry, signed: Make) -> None:
    for seed in (1, 2, 3):
        registry.add(signed(seed))
    promote(registry, "tiny:1")
    promote(registry, "tiny:3")
    with pytest.raises(RecipeError, match="tiny:2 was not in production before"):
        rollback(registry, to="2")


def test_stages_are_apart(registry: Registry, signed: Make) -> None:
    registry.add(signed(1))
    registry.add(signed(2))
    promote(registry, "tiny:1")
    registry.promote(parse_reference("tiny"), "staging", "Ada", "trial")
    assert [row.stages for row in version_rows(registry, registry.sound())] == [["production"], ["staging"]]


@pytest.mark.parametrize(
    ("gate", "status", "code"),
    [("FAIL", "failed", Exit.GATE_FAILED), ("INCONCLUSIVE", "inconclusive", Exit.INCONCLUSIVE), ("FAIL", "passed", 1)],
)
def test_only_pass_is_promoted(registry: Registry, tmp_path: Path, gate: str, status: str, code: int) -> None:
    """Also where the manifest says passed and the gates in the bundle do not."""
    registry.add(make_bundle(tmp_path / "bundle", gate=gate, status=status))
    with pytest.raises(NotPromotable, match=f"its verdict is {gate}") as refused:
        promote(registry, "tiny:1")
    assert refused.value.exit_code == code
    assert not [entry for entry in registry.sound().entries if entry.stage]


@pytest.mark.parametrize("severity", ["warn", "block"])
def test_a_gate_that_only_warns_holds_nothing_back(registry: Registry, signed: Make, severity: str) -> None:
    """Both bundles say that they passed."""
    row = {"gate": "dice", "metric": "dice", "status": "FAIL", "severity": severity}
    registry.add(signed(1, evidence=canonical_json({"verdicts": [row]})))
    if severity == "warn":
        assert promote(registry, "tiny:1") == "1"
    else:
        with pytest.raises(NotPromotable, match=r"its verdict is FAIL \(dice\)"):
            promote(registry, "tiny:1")


def test_what_is_marked_as_not_for_shipping_is_not_promoted(registry: Registry, tmp_path: Path) -> None:
    """Whatever its manifest and its verdicts say."""
    folder, note = make_bundle(tmp_path / "bundle"), b"no\n"
    (folder / verify.NOT_SHIPPED).write_bytes(note)
    manifest = verify.parse_manifest((folder / verify.MANIFEST).read_bytes())
    manifest["files"][verify.NOT_SHIPPED] = {"sha256": hashlib.sha256(note).hexdigest(), "bytes": len(note)}
    (folder / verify.MANIFEST).write_bytes(verify.canonical(manifest))
    registry.add(folder)
    with pytest.raises(NotPromotable, match=r"it holds NOT-FOR-SHIPPING\.txt") as refusal:
        promote(registry, "tiny:1")
    assert refusal.value.exit_code == Exit.GATE_FAILED


def test_only_what_a_trusted_key_signed_is_promoted(registry: Registry, tmp_path: Path, signed: Make) -> None:
    stranger = new_key(tmp_path / "stranger.pem")
    unsigned, foreign = make_bundle(tmp_path / "a", 1), make_bundle(tmp_path / "b", 2)
    sign_folder(foreign, stranger)
    registry.add(unsigned)
    registry.add(foreign)
    with pytest.raises(NotPromotable, match="not signed"):
        promote(registry, "tiny:1")
    with pytest.raises(NotPromotable, match=f"signed by key {stranger.id}"):
        promote(registry, "tiny:2")
    assert promote(registry, "tiny:2", keys={stranger.id: stranger.public}) == "2"
    registry.add(signed(3))
    with pytest.raises(NotPromotable, match="not by"):
        promote(registry, "tiny:3", keys={stranger.id: stranger.public})
    with pytest.raises(Undecided, match="no key was given"):
        promote(registry, "tiny:3", keys={})


def test_a_signature_that_cannot_be_checked_is_none(
    local: Registry, signed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package cryptography."""
    local.add(signed(1))
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(NotPromotable, match="cannot be checked: python -m pip install cryptography"):
        promote(local, "tiny:1")


def test_a_signature_can_come_later_and_a_key_can_go(registry: Registry, tmp_path: Path, signed: Make) -> None:
    """Rotation: the bundle stays as it is, the new key's signature is laid beside it."""
    folder = signed(1)
    first = next(iter(registry.sound().keys))
    registry.add(folder)
    promote(registry, "tiny:1")
    registry.distrust(first, "Ada", "rotated")
    with pytest.raises(Undecided, match="no key was given"):
        registry.promote(parse_reference("tiny:1"), "staging", "Ada", "trial")
    successor = new_key(tmp_path / "next.pem")
    registry.trust(successor.public, "Ada", "release key 2027")
    with pytest.raises(NotPromotable):
        registry.promote(parse_reference("tiny:1"), "staging", "Ada", "trial")
    sign_folder(folder, successor, replace=True)
    assert registry.add(folder).again
    assert registry.promote(parse_reference("tiny:1"), "staging", "Ada", "trial").key == successor.id


def test_a_version_is_copied_out_whole_or_not_at_all(registry: Registry, signed: Make, tmp_path: Path) -> None:
    added = registry.add(signed(1))
    said = export_bundle(registry, parse_reference("tiny:1"), tmp_path / "got", None)
    assert said == "tiny:1, with a trusted signature"
    assert verify.verify_folder(tmp_path / "got", registry.sound().keys).exit_code == 0
    with pytest.raises(NotPromotable):
        export_bundle(registry, parse_reference("tiny:1"), tmp_path / "other", {"0" * 32: bytes(32)})
    model = f"bundles/{added.stored.digest}/model.onnx"
    change(registry, model, registry.place.read(model, 1 << 20)[:-1] + b"x")
    with pytest.raises(RegistryError, match=r"model\.onnx is not the file that was bundled"):
        export_bundle(registry, parse_reference("tiny:1"), tmp_path / "third", None)
    with pytest.raises(RegistryError, match=r"model\.onnx is not the file that was bundled"):
        promote(registry, "tiny:1")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "third", "other"))) == []


def change(registry: Registry, name: str, content: bytes) -> None:
    """Write over a file of the place, behind the registry's back."""
    if isinstance(registry.place, RemotePlace):
        registry.place._fs.pipe_file(registry.place._path(name), content)
        return
    path = Path(registry.place.location) / name
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 65, "naïve", "a b", "a\n", "a:b", "-x", "x\\y"])
def test_hostile_names_are_refused(local: Registry, signed: Make, name: str) -> None:
    with pytest.raises(RecipeError, match="is no name"):
        local.add(signed(1, name=name))
    with pytest.raises(RecipeError):
        parse_reference(name) if name != "a:b" else local.sound().find(parse_reference(name))
    assert local.place.names("bundles") == []


@pytest.mark.parametrize("version", ["../1", "1/2", "x" * 33, "1 2", "é", "-1"])
def test_hostile_versions_are_refused(local: Registry, signed: Make, version: str) -> None:
    with pytest.raises(RecipeError, match="is no version"):
        local.add(signed(1), version=version)


def test_a_changed_bundle_is_not_added(local: Registry, signed: Make) -> None:
    folder = signed(1)
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(RecipeError, match=r"model\.onnx is not the file"):
        local.add(folder)
    assert local.place.names("bundles") == []
