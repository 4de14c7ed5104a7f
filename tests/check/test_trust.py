"""Who vouches for the baseline: a key the user names, or nobody, and then that is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgeft import cli
from edgeft.canonical import canonical_json, digest_file
from edgeft.errors import RecipeError
from edgeft.ship.check.sides import open_side
from edgeft.ship.check.trust import require_signer
from edgeft.ship.keys import new_key, public_file
from edgeft.ship.signature import sign_folder
from edgeft.ship.verify import MANIFEST, NOT_SHIPPED
from tests.check import kit
from tests.check.conftest import Ask

pytestmark = pytest.mark.ml
LEFT = "--no-accuracy --no-latency"


@pytest.fixture
def keys(world: Path) -> Path:
    """ours.pem signs base; theirs.pem signs nothing yet."""
    for name in ("ours", "theirs"):
        new_key(world / f"{name}.pem")
    sign_folder(world / "base", new_key(world / "signing.pem"))
    return world


def public(world: Path, name: str) -> Path:
    return public_file(world / f"{name}.pem")


def test_a_signed_baseline_is_taken_and_its_signer_recorded(keys: Path, ask: Ask) -> None:
    code, record = ask(f"same --baseline base {LEFT} --key {public(keys, 'signing')}")
    assert code == 0 and len(record["baseline"]["signer"]) == 32 and not record["candidate"]["signer"]
    assert not any("signature" in note for note in record["notes"])
    both = f"--key {public(keys, 'ours')} --key {public(keys, 'signing')}"
    assert ask(f"same --baseline base {LEFT} {both}")[0] == 0, "while a key is being replaced"


def test_without_a_key_it_is_said_that_nobody_was_asked(keys: Path, ask: Ask) -> None:
    code, record = ask(f"same --baseline base {LEFT}")
    assert code == 0 and any("no --key was given" in note for note in record["notes"])
    code, record = ask(f"base --baseline same {LEFT}")
    assert code == 0 and any("not signed: nobody vouches for it" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("same --baseline base --key {theirs}", "not by"),
        ("base --baseline same --key {signing}", "the bundle is not signed"),
        ("same --baseline moved --key {signing}", "did not sign this manifest"),
        ("same --baseline bare.onnx --key {signing}", "a bare model has no signature"),
        ("same --baseline base --key test.csv", "holds no public key"),
        ("same --baseline base --key gone.pub", "No such file"),
    ],
)
def test_what_nobody_named_signed_is_refused(
    words: str, said: str, keys: Path, texts: kit.Texts, capsys: pytest.CaptureFixture[str]
) -> None:
    kit.text_model(keys / "bare.onnx", texts.weights)
    kit.text_bundle(keys / "moved", texts, texts.weights * 1.002)
    (keys / "moved" / "manifest.sig").write_bytes((keys / "base" / "manifest.sig").read_bytes())
    named = {name: public(keys, name) for name in ("theirs", "signing")}
    assert cli.main(["check", *words.format(**named).split(), *LEFT.split()]) == 2
    found = capsys.readouterr()
    assert said in found.err and "Traceback" not in found.err and found.out == ""


def test_a_manifest_that_is_another_since_its_files_were_checked_is_refused(keys: Path) -> None:
    manifest = keys / "base" / MANIFEST
    with open_side("baseline", keys / "base") as side:
        assert require_signer(side, [])[0] == ""
        manifest.write_text(manifest.read_text().replace('"passed"', '"failed"'))
        with pytest.raises(RecipeError, match="changed while it was read"):
            require_signer(side, [])


def test_a_bundle_that_says_it_may_not_be_shipped_is_no_release(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever status its manifest claims."""
    marker, manifest = world / "base" / NOT_SHIPPED, world / "base" / MANIFEST
    marker.write_text("")
    content = json.loads(manifest.read_text())
    content["files"][NOT_SHIPPED] = {"sha256": digest_file(marker), "bytes": 0}
    manifest.write_bytes(canonical_json(content, indent=1))
    assert content["status"] == "passed"
    assert cli.main(["check", "same", "--baseline", "base", *LEFT.split()]) == 2
    assert "did not pass its own gates (rejected)" in capsys.readouterr().err


def test_a_recipe_beside_the_signed_bundle_states_nothing(keys: Path, texts: kit.Texts, ask: Ask) -> None:
    """Whoever can write there would widen the margin."""
    home = keys / "out" / "targets" / "local-cpu"
    kit.text_bundle(home, texts)
    sign_folder(home, new_key(keys / "home.pem"))
    kit.text_bundle(keys / "bad", texts, kit.worse(texts.weights, 0.3))
    wide = "gates:\n  - {metric: accuracy, no_worse_than: source, margin: 0.9, severity: warn}\n"
    (keys / "out" / "recipe.resolved.yaml").write_text(wide)
    code, record = ask(f"bad --baseline {home} --data test.csv --no-latency --key {public(keys, 'home')}")
    accuracy = next(row for row in record["verdicts"] if row["check"] == "accuracy")
    assert code == 1 and accuracy["limit"] == 0.01 and accuracy["limit_from"].startswith("edgeft's default")
    assert any("holds no recipe.resolved.yaml: --recipe names" in note for note in record["notes"])


def test_a_key_is_asked_for_where_no_signature_can_be_checked(
    keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without cryptography nothing is known of the signer, and nothing unknown is taken for granted."""
    key = public(keys, "signing")
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert cli.main(["check", "same", "--baseline", "base", *LEFT.split(), "--key", str(key)]) == 2
    found = capsys.readouterr()
    assert "cryptography" in found.err and "--key asks for a signature to be checked" in found.err and not found.out
