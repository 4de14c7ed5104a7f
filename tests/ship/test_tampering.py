"""A bundle that was changed in any way is refused, by name: one byte of any file, files more, fewer, swapped, linked."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.ship import verify
from edgeft.ship.bundle import BundleError, open_bundle
from edgeft.ship.keys import Signer, new_key
from edgeft.ship.signature import sign_folder
from tests.ship.conftest import make_bundle

See = Callable[[Path, str, str], None]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")


def test_a_sound_bundle_is_verified(bundle: Path, trusted: dict[str, bytes], signer: Signer) -> None:
    found = verify.verify_folder(bundle, trusted)
    assert found.exit_code == 0 and found.signer == signer.id
    assert [(row.check, row.verdict) for row in found.findings] == [
        ("manifest", "pass"), ("signature", "pass"), ("files", "pass"), ("status", "pass"),
    ]  # fmt: skip
    assert open_bundle(bundle).manifest["name"] == "tiny"


def test_any_byte_of_any_file(bundle: Path, trusted: dict[str, bytes]) -> None:
    """First, last and some between; all bits of the signature file and every byte of the manifest."""
    tried = 0
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        content = path.read_bytes()
        thorough = path.name in (verify.MANIFEST, verify.SIGNATURE)
        places = range(len(content)) if thorough else {0, len(content) // 3, len(content) // 2, len(content) - 1}
        for place in [place for place in places if 0 <= place < len(content)]:
            for bit in range(8) if path.name == verify.SIGNATURE else (place % 8,):
                changed = bytearray(content)
                changed[place] ^= 1 << bit
                path.write_bytes(changed)
                assert_names(verify.verify_folder(bundle, trusted), path.relative_to(bundle).as_posix(), (place, bit))
                tried += 1
        for other in (content + b"\0", content[:-1]):
            path.write_bytes(other)
            same = other == content
            if not same:
                assert_names(verify.verify_folder(bundle, trusted), path.relative_to(bundle).as_posix(), len(other))
        path.write_bytes(content)
    assert tried > 2000
    assert verify.verify_folder(bundle, trusted).exit_code == 0, "all was put back"


def assert_names(found: verify.Verification, name: str, how: object) -> None:
    """Refused, and told of that file: by its name, or as the manifest or the signature, which are checks of their own."""
    said = [f"{row.check}: {row.said}" for row in found.findings if row.verdict == "fail"]
    words = {verify.MANIFEST: ("manifest",), verify.SIGNATURE: ("signature",)}.get(name, (f"files: {name} ",))
    assert found.exit_code == 1 and any(word in row for word in words for row in said), (name, how, said)


def test_two_files_swapped(bundle: Path, refused: See) -> None:
    one, two = bundle / "model.onnx", bundle / "preprocess.json"
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    refused(bundle, "files", "model.onnx is not the file that was bundled")
    with pytest.raises(BundleError, match=r"model\.onnx is not the file that was bundled"):
        open_bundle(bundle)


def test_two_files_of_one_size_swapped(tmp_path: Path, signer: Signer, refused: See) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/one.bin").write_bytes(b"1111")
    (tmp_path / "b/two.bin").write_bytes(b"2222")
    sign_folder(make_bundle(tmp_path / "b"), signer)
    (tmp_path / "b/one.bin").write_bytes(b"2222")
    (tmp_path / "b/two.bin").write_bytes(b"1111")
    refused(tmp_path / "b", "files", "one.bin is not the file that was bundled: its SHA-256 differs; two.bin")


def test_a_size_that_is_not_the_files(tmp_path: Path) -> None:
    """Told before a byte is hashed: a file that grew to gigabytes costs nothing."""
    content = b"1111"
    (tmp_path / "a").write_bytes(content)
    row = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": 4}
    assert verify.file_faults(tmp_path, {"a": row}) == []
    said = "a is not the file that was bundled: 4 bytes, not 5"
    assert verify.file_faults(tmp_path, {"a": {**row, "bytes": 5}}) == [said]


@pytest.mark.parametrize("name", ["more.txt", "golden/more.npy", ".hidden", "manifest.json.bak", "new/deep/more.txt"])
def test_a_file_more(bundle: Path, refused: See, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("x")
    refused(bundle, "files", f"{name} does not belong to the bundle")


def test_an_empty_folder_more(bundle: Path, refused: See) -> None:
    (bundle / "golden/more").mkdir()
    refused(bundle, "files", "golden/more/ does not belong to the bundle")


@pytest.mark.parametrize("name", ["model.onnx", "golden/inputs/x.npy", "empty.txt", "verify.py"])
def test_a_file_fewer(bundle: Path, refused: See, name: str) -> None:
    (bundle / name).unlink()
    refused(bundle, "files", f"{name} is missing")


def test_no_manifest_and_no_signature(bundle: Path, refused: See) -> None:
    (bundle / verify.SIGNATURE).unlink()
    refused(bundle, "signature", "the bundle is not signed")
    (bundle / verify.MANIFEST).unlink()
    refused(bundle, "manifest", "manifest.json cannot be read")


@POSIX
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "manifest.sig"])
def test_a_link_in_a_files_place(bundle: Path, tmp_path: Path, refused: See, name: str) -> None:
    """Also where the file it leads to is the right one: it can be exchanged after the check."""
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    check, words = {"model.onnx": ("files", "model.onnx is a link"), "manifest.sig": ("signature", "manifest.sig")}.get(
        name, ("manifest", "manifest.json")
    )
    refused(bundle, check, words)


@POSIX
def test_a_link_in_a_folders_place(bundle: Path, tmp_path: Path, refused: See) -> None:
    (bundle / "golden").rename(tmp_path / "golden")
    (bundle / "golden").symlink_to(tmp_path / "golden")
    refused(bundle, "files", "golden/inputs/x.npy is missing; golden does not belong to the bundle")


@POSIX
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_hard_link(bundle: Path, tmp_path: Path, refused: See, name: str) -> None:
    os.link(bundle / name, tmp_path / "other")
    refused(bundle, "files", f"{name} has a second name (a hard link)")


@POSIX
@pytest.mark.parametrize(("name", "check"), [("model.onnx", "files"), ("manifest.json", "manifest")])
def test_a_pipe_in_a_files_place(bundle: Path, refused: See, name: str, check: str) -> None:
    """And nobody waits for its other end."""
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    refused(bundle, check, f"{name} is not a plain file")


def test_a_file_that_is_exchanged_between_the_look_and_the_reading(
    bundle: Path, refused: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even by one of the same content: what was looked at must be what is read."""
    looked = verify.walk

    def slow(root: Path) -> dict[str, os.stat_result]:
        found = looked(root)
        (root / "copy").write_bytes((root / "model.onnx").read_bytes())
        (root / "copy").replace(root / "model.onnx")
        return found

    monkeypatch.setattr(verify, "walk", slow)
    refused(bundle, "files", "model.onnx was exchanged while it was read")


def test_what_is_kept_is_what_was_hashed(bundle: Path, trusted: dict[str, bytes], tmp_path: Path) -> None:
    found = verify.verify_folder(bundle, trusted, keep=tmp_path / "kept")
    (bundle / "model.onnx").write_bytes(b"another")
    kept = {path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert found.exit_code == 0
    assert kept | {"manifest.sig", "manifest.json"} == {
        path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()
    }
    assert (tmp_path / "kept/model.onnx").read_bytes() != b"another"


def test_the_signature_of_another_bundle(bundle: Path, tmp_path: Path, signer: Signer, refused: See) -> None:
    other = make_bundle(tmp_path / "other", name="other")
    sign_folder(other, signer)
    (bundle / verify.SIGNATURE).write_bytes((other / verify.SIGNATURE).read_bytes())
    refused(bundle, "signature", "did not sign this manifest")


def test_the_signature_of_another_key(bundle: Path, tmp_path: Path, signer: Signer, refused: See) -> None:
    stranger = new_key(tmp_path / "stranger.pem")
    sign_folder(bundle, stranger, replace=True)
    refused(bundle, "signature", f"signed by key {stranger.id}, not by {signer.id}")
    forged = (bundle / verify.SIGNATURE).read_text().replace(stranger.id, signer.id)
    (bundle / verify.SIGNATURE).write_text(forged)
    refused(bundle, "signature", f"key {signer.id} did not sign this manifest")


def test_a_signature_made_for_another_purpose(bundle: Path, signer: Signer, refused: See) -> None:
    """The same key over the manifest's bytes alone, as another tool would sign a file."""
    import base64

    raw = (bundle / verify.MANIFEST).read_bytes()
    row = {"algorithm": "ed25519", "key_id": signer.id}
    row["signature"] = base64.b64encode(signer.private.sign(raw)).decode()
    (bundle / verify.SIGNATURE).write_bytes(verify.canonical(row))
    refused(bundle, "signature", "did not sign this manifest")


def test_what_failed_its_gates_is_refused_though_signed(tmp_path: Path, signer: Signer, refused: See) -> None:
    import base64

    folder = make_bundle(tmp_path / "b", status="failed")
    raw = (folder / verify.MANIFEST).read_bytes()
    signature = base64.b64encode(signer.private.sign(verify.DOMAIN + raw)).decode()
    row = {"algorithm": "ed25519", "key_id": signer.id, "signature": signature}
    (folder / verify.SIGNATURE).write_bytes(verify.canonical(row))
    refused(folder, "status", "did not pass its gates (failed)")
