"""Keys: made once and privately, read from a file or the environment, never shown; what each command answers."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeft import cli
from edgeft.errors import EdgeftError, RecipeError
from edgeft.ship import verify
from edgeft.ship.keys import KEY_VARIABLE, PASSPHRASE_VARIABLE, Signer, find_signer, load_signer, new_key, public_pem
from edgeft.ship.signature import UnsignableError, sign_folder
from tests.ship.conftest import make_bundle

Capture = pytest.CaptureFixture[str]


def test_a_key_is_written_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    place = tmp_path / "deep/release.pem"
    signer = new_key(place)
    assert load_signer(place).id == signer.id and b"BEGIN PRIVATE KEY" in place.read_bytes()
    assert verify.read_keys([tmp_path / "deep/release.pem.pub"]) == {signer.id: signer.public}
    if sys.platform != "win32":
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
    before = place.read_bytes()
    with pytest.raises(RecipeError, match="is there already"):
        new_key(place)
    (tmp_path / "deep/release.pem.pub").unlink()
    with pytest.raises(RecipeError, match=r"release\.pem: is there already"):
        new_key(place)
    assert place.read_bytes() == before
    (tmp_path / "other.pem.pub").touch()
    with pytest.raises(RecipeError, match=r"other\.pem\.pub: is there already"):
        new_key(tmp_path / "other.pem")
    assert not (tmp_path / "other.pem").exists(), "no half of a pair"


def test_a_key_under_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse")
    signer = new_key(tmp_path / "k.pem")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (tmp_path / "k.pem").read_bytes()
    assert load_signer(tmp_path / "k.pem").id == signer.id
    for phrase in ("wrong", ""):
        monkeypatch.setenv(PASSPHRASE_VARIABLE, phrase)
        with pytest.raises(RecipeError, match="no private key that can be opened") as refusal:
            load_signer(tmp_path / "k.pem")
        assert PASSPHRASE_VARIABLE in refusal.value.hint


def test_a_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert find_signer(None) is None
    one, two = new_key(tmp_path / "one.pem"), new_key(tmp_path / "two.pem")
    monkeypatch.setenv(KEY_VARIABLE, (tmp_path / "one.pem").read_text())
    found = find_signer(None)
    assert found is not None and found.id == one.id
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "two.pem"))
    found = find_signer(None)
    assert found is not None and found.id == two.id
    found = find_signer(tmp_path / "one.pem")
    assert found is not None and found.id == one.id, "what was named wins over the environment"


def test_what_is_no_key_is_named_and_never_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    other = generate_private_key(SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "other.pem").write_bytes(pem)
    (tmp_path / "text.pem").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    for name, words in (
        ("other.pem", "not an Ed25519 key"),
        ("text.pem", "no private key"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(RecipeError, match=words):
            load_signer(tmp_path / name)
    monkeypatch.setenv(KEY_VARIABLE, (tmp_path / "text.pem").read_text())
    with pytest.raises(RecipeError) as refusal:
        find_signer(None)
    assert "c2VjcmV0" not in refusal.value.render() and KEY_VARIABLE in refusal.value.render()
    (tmp_path / "other.pub").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ValueError, match="no Ed25519 public key"):
        verify.read_keys([tmp_path / "other.pub"])


def test_a_private_key_is_not_a_key_to_trust(tmp_path: Path) -> None:
    new_key(tmp_path / "k.pem")
    with pytest.raises(ValueError, match="is a private key"):
        verify.read_keys([tmp_path / "k.pem"])
    (tmp_path / "empty").write_text("hello")
    with pytest.raises(ValueError, match="holds no public key"):
        verify.read_keys([tmp_path / "empty"])


def test_a_signer_does_not_print_its_secret(signer: Signer) -> None:
    assert repr(signer) == f"Signer({signer.id})"


def test_only_what_passed_and_is_whole_is_signed(tmp_path: Path, signer: Signer) -> None:
    failed = make_bundle(tmp_path / "failed", status="failed")
    changed = make_bundle(tmp_path / "changed")
    (changed / "model.onnx").write_bytes(b"x")
    for folder, words in ((failed, "did not pass its gates"), (changed, "model.onnx is not the file")):
        with pytest.raises(UnsignableError, match=words):
            sign_folder(folder, signer)
        assert not (folder / verify.SIGNATURE).exists()
    with pytest.raises(EdgeftError, match=r"manifest\.json cannot be read"):
        sign_folder(tmp_path, signer)


def test_the_commands(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    make_bundle(tmp_path / "b")
    assert cli.main(["keys", "new", "--out", "r.pem"]) == 0
    made = capsys.readouterr().out
    assert "PRIVATE" not in made and "BEGIN PUBLIC KEY" in made
    for half in ("r.pem", "r.pem.pub"):
        assert cli.main(["keys", "show", half]) == 0
        assert made.endswith(capsys.readouterr().out)
    assert cli.main(["verify", "b"]) == 5 and "signer unknown" in capsys.readouterr().out
    assert cli.main(["verify", "b", "--key", "r.pem.pub"]) == 1 and "not signed" in capsys.readouterr().out
    assert cli.main(["sign", "b"]) == 2 and KEY_VARIABLE in capsys.readouterr().err
    assert cli.main(["sign", "b", "--key", "r.pem"]) == 0
    assert cli.main(["sign", "b", "--key", "r.pem"]) == 2 and "--replace" in capsys.readouterr().err
    assert cli.main(["verify", "b"]) == 5
    assert capsys.readouterr().out.endswith("NOT VERIFIED: intact, signer unknown\n")
    assert cli.main(["verify", "b", "--key", "r.pem.pub"]) == 0
    assert capsys.readouterr().out.endswith("VERIFIED\n")
    assert cli.main(["verify", "b", "--key", "r.pem"]) == 2 and "private key" in capsys.readouterr().err
    assert cli.main(["verify", "none", "--key", "r.pem.pub"]) == 2
    (tmp_path / "b/model.onnx").write_bytes(b"x")
    assert cli.main(["verify", "b", "--key", "r.pem.pub", "--json"]) == 1
    out = capsys.readouterr().out
    assert json.loads(out)["outcome"] == "refused"


def test_a_full_disk_says_nothing_against_the_bundle(
    bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if mode == "xb":  # the copy that is made while the hash is taken
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    assert cli.main(["verify", str(bundle), "--golden"]) == 3
    assert "no room to check a copy" in capsys.readouterr().err


def test_a_key_is_rotated(tmp_path: Path, bundle: Path, signer: Signer) -> None:
    """Receivers trust both keys for a time; what is signed anew needs the new one alone."""
    new = new_key(tmp_path / "new.pem")
    (tmp_path / "both.pub").write_bytes(public_pem(signer.public) + public_pem(new.public))
    both, only_new = verify.read_keys([tmp_path / "both.pub"]), {new.id: new.public}
    assert verify.verify_folder(bundle, both).signer == signer.id
    assert verify.verify_folder(bundle, only_new).exit_code == 1
    with pytest.raises(RecipeError, match="signed already"):
        sign_folder(bundle, new)
    sign_folder(bundle, new, replace=True)
    assert verify.verify_folder(bundle, both).signer == verify.verify_folder(bundle, only_new).signer == new.id


WITHOUT = """
import sys

class Absent:
    names = {"torch", "transformers", "numpy", "pydantic", "ruamel", "pyarrow", "scipy", "sklearn", "jinja2", "rich", "onnx",
             "onnxruntime", "filelock", "psutil", "datasets", "safetensors"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from edgeft import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_verifying_and_signing_need_cryptography_alone(bundle: Path, tmp_path: Path, signer: Signer) -> None:
    (tmp_path / "r.pub").write_bytes(public_pem(signer.public))
    for words, code in (
        (["verify", str(bundle), "--key", "r.pub"], 0),
        (["keys", "new", "--out", "k.pem"], 0),
        (["sign", str(bundle), "--key", "k.pem", "--replace"], 0),
        (["verify", str(bundle), "--key", "r.pub"], 1),
    ):
        done = subprocess.run([sys.executable, "-c", WITHOUT, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize("change", ["none", "byte", "more", "fewer", "unsigned", "other key"])
def test_the_copy_in_the_bundle_gives_the_same_verdict(
    bundle: Path, tmp_path: Path, signer: Signer, change: str
) -> None:
    """The file itself, alone, isolated from edgeft and from the folder it lies in."""
    other = new_key(tmp_path / "other.pem")
    (tmp_path / "r.pub").write_bytes(public_pem(signer.public))
    changes = {
        "none": lambda: None,
        "byte": lambda: (bundle / "model.onnx").write_bytes(b"x"),
        "more": lambda: (bundle / "json.py").write_text("raise SystemExit(0)"),
        "fewer": lambda: (bundle / "empty.txt").unlink(),
        "unsigned": lambda: (bundle / "manifest.sig").unlink(),
        "other key": lambda: sign_folder(bundle, other, replace=True),
    }
    changes[change]()
    for keys in ([], ["--key", str(tmp_path / "r.pub")]):
        command = [sys.executable, "-I", str(bundle / "verify.py"), "--json", *keys]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        ours = verify.verify_folder(bundle, verify.read_keys([Path(key) for key in keys[1:]]))
        assert json.loads(done.stdout) == ours.to_json() and done.returncode == ours.exit_code, done.stderr
    assert (done.returncode == 0) == (change == "none")
