"""Hashes, canonical bytes and signatures, on vectors of the standards and on a bundle that is changed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgeft.canonical import canonical_json, digest_file
from edgeft.ship import verify
from edgeft.ship.selftest.items import Item, same

GROUP = "Hashes and signatures"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
SECRET = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"  # noqa: S105  of RFC 8032
PUBLIC = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
SIGNED = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)
JSON = b'{"a":[1.5,null,true],"b":{"z":"\xc3\xa9"}}'


def items() -> Iterator[Item]:
    """In the order of the report."""
    rows = [
        ("SHA-256 of 'abc'", "FIPS 180-4, example of one block", _sha256),
        ("Canonical JSON", "sorted keys, no blanks, UTF-8", _canonical),
        ("Ed25519 key, signature and verification", "RFC 8032, section 7.1, test 3", _ed25519),
        ("A signed bundle is verified", "made here, with a key made here", _verified),
        ("The same with one bit changed, in each file", "must be refused", _changed),
        ("The same by another key, unsigned, with a file more", "must be refused", _foreign),
    ]
    return (Item(GROUP, name, source, ask) for name, source, ask in rows)


def _sha256() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "abc"
        path.write_bytes(b"abc")
        return same(ABC, digest_file(path))


def _canonical() -> str:
    return same(JSON.decode(), canonical_json({"b": {"z": "é"}, "a": [1.5, None, True]}).decode())


def _ed25519() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SECRET))
    same(PUBLIC, key.public_key().public_bytes_raw().hex())
    same(SIGNED, key.sign(bytes.fromhex("af82")).hex())
    key.public_key().verify(bytes.fromhex(SIGNED), bytes.fromhex("af82"))
    return f"signature {SIGNED[:16]}..."


def _verified() -> str:
    with tempfile.TemporaryDirectory() as folder:
        keys = _signed_bundle(Path(folder) / "bundle")
        return same(0, verify.verify_folder(Path(folder) / "bundle", keys).exit_code)


def _changed() -> str:
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        keys = _signed_bundle(bundle)
        names = sorted(path.name for path in bundle.iterdir())
        for name in names:
            content = (bundle / name).read_bytes()
            (bundle / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
            same((name, 1), (name, verify.verify_folder(bundle, keys).exit_code))
            (bundle / name).write_bytes(content)
        same(0, verify.verify_folder(bundle, keys).exit_code)
    return f"refused: {', '.join(names)}"


def _foreign() -> str:
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        keys = _signed_bundle(bundle)
        same(1, verify.verify_folder(bundle, {verify.key_id(bytes(32)): bytes(32)}).exit_code)
        same(5, verify.verify_folder(bundle, {}).exit_code)
        (bundle / "more.txt").write_text("x", encoding="ascii")
        same(1, verify.verify_folder(bundle, keys).exit_code)
        (bundle / "more.txt").unlink()
        (bundle / verify.SIGNATURE).unlink()
        return f"refused; exit code {same(1, verify.verify_folder(bundle, keys).exit_code)}, without a key 5"


def _signed_bundle(folder: Path) -> dict[str, bytes]:
    """The smallest bundle there can be, signed by a fresh key; the keys that trust it."""
    from edgeft.ship.keys import new_key
    from edgeft.ship.signature import sign_folder

    folder.mkdir()
    content = bytes(range(256))
    (folder / "model.onnx").write_bytes(content)
    row = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest = {"format": verify.FORMATS[-1], "status": "passed", "files": {"model.onnx": row}}
    (folder / verify.MANIFEST).write_bytes(verify.canonical(manifest))
    signer = new_key(folder.with_name("key.pem"))
    sign_folder(folder, signer)
    return {signer.id: signer.public}
