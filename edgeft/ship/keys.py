"""Signing keys: Ed25519 pairs in PEM files. The private half comes from a file or the environment, never a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import EdgeftError, RecipeError
from edgeft.ship.verify import key_id, read_keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_VARIABLE = "EDGEFT_SIGNING_KEY"
"""A private key's PEM text, or the name of the file that holds it."""
PASSPHRASE_VARIABLE = "EDGEFT_SIGNING_PASSPHRASE"  # noqa: S105  the variable's name
MAX_KEY_BYTES = 1 << 16
BEGIN = "-----BEGIN"


@dataclass(frozen=True)
class Signer:
    """A private key that can sign. Its repr shows the id alone."""

    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"Signer({self.id})"

    @property
    def public(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self.private.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        """Names the public key in signatures."""
        return key_id(self.public)


def new_key(place: Path) -> Signer:
    """A fresh pair: the private half in `place` (PKCS #8, mode 0600), the public half in `place`.pub.

    Encrypted where a passphrase is in the environment. RecipeError where either file exists.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        KeySerializationEncryption,
        NoEncryption,
        PrivateFormat,
    )

    signer, phrase = Signer(Ed25519PrivateKey.generate()), _passphrase()
    locked: KeySerializationEncryption = BestAvailableEncryption(phrase) if phrase else NoEncryption()
    private = signer.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    beside = public_file(place)
    if beside.exists():
        raise RecipeError("is there already", where=str(beside), hint="name another file with --out")
    _write_new(place, private, 0o600)
    _write_new(beside, public_pem(signer.public), 0o644)
    return signer


def public_file(place: Path) -> Path:
    """Where the public half of a private key's file lies."""
    return place.with_name(f"{place.name}.pub")


def public_pem(public: bytes) -> bytes:
    """PEM (SubjectPublicKeyInfo) of a raw public key: what receivers get."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Ed25519PublicKey.from_public_bytes(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_of(place: Path) -> bytes:
    """The raw public key of a file that holds either half. RecipeError where it holds none."""
    try:
        with place.open("rb") as stream:
            private = b"PRIVATE KEY" in stream.read(MAX_KEY_BYTES)
        return load_signer(place).public if private else next(iter(read_keys([place]).values()))
    except (OSError, ValueError) as error:
        raise RecipeError(f"holds no key: {error}", where=str(place), hint="`edgeft keys new` makes one") from error


def trusted_keys(places: Iterable[Path]) -> dict[str, bytes]:
    """Id -> raw public key of the files that `--key` names. RecipeError where one holds none."""
    try:
        return read_keys(places)
    except (OSError, ValueError) as error:
        raise RecipeError(str(error), where="--key", hint="give the public key that the signer published") from error


def find_signer(place: Path | None) -> Signer | None:
    """The key of a file, else of the environment; None where neither names one."""
    if place is not None:
        return load_signer(place)
    given = os.environ.get(KEY_VARIABLE, "").strip()
    if not given:
        return None
    return _parse(given.encode(), KEY_VARIABLE) if given.startswith(BEGIN) else load_signer(Path(given))


def load_signer(place: Path) -> Signer:
    """The private key in a PEM file. RecipeError where it is none, is locked, or is not Ed25519."""
    try:
        with place.open("rb") as stream:
            return _parse(stream.read(MAX_KEY_BYTES), str(place))
    except OSError as error:
        raise RecipeError(
            f"the signing key cannot be read: {error.strerror}",
            where=str(place),
            hint="`edgeft keys new --out FILE` makes one",
        ) from error


def _parse(pem: bytes, where: str) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    hint = f"put its passphrase into {PASSPHRASE_VARIABLE}" if b"ENCRYPTED" in pem else "`edgeft keys new` makes one"
    try:
        key = load_pem_private_key(pem, _passphrase() if b"ENCRYPTED" in pem else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # the text could quote the key: it is left out
        raise RecipeError("no private key that can be opened", where=where, hint=hint) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RecipeError("not an Ed25519 key", where=where, hint="`edgeft keys new` makes one")
    return Signer(key)


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None


def _write_new(place: Path, content: bytes, mode: int) -> None:
    """Never over another file, never wider than `mode`, not even for a moment."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
    except FileExistsError as error:
        raise RecipeError(
            "is there already; a key that is overwritten is lost", where=str(place), hint="name another file with --out"
        ) from error
    except OSError as error:
        raise EdgeftError(f"cannot be written: {error.strerror}", where=str(place)) from error
