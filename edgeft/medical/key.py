"""The secret that turns a Patient ID into a pseudonym: the user's own, or one that is made once for every store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from edgeft.errors import RecipeError, StoreError
from edgeft.store.layout import default_root

VARIABLE = "EDGEFT_PSEUDONYM_KEY"
FILE = "pseudonym.key"
_SHORTEST = 16


def pseudonym_key(root: Path | None = None) -> bytes:
    """32 bytes from EDGEFT_PSEUDONYM_KEY (a secret text of 16 characters at least), else from the store's own file.

    Pseudonyms are equal where keys are equal: two machines that must split alike share the variable. The file is made
    with mode 0600 and never leaves the store: no bundle, report or export holds it.
    """
    stated = os.environ.get(VARIABLE, "")
    if stated:
        if len(stated) < _SHORTEST:
            hint = "openssl rand -hex 32 makes one"
            raise RecipeError(f"must have at least {_SHORTEST} characters", where=VARIABLE, hint=hint)
        return hashlib.sha256(b"edgeft pseudonym\0" + stated.encode()).digest()
    path = (root or default_root()) / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        key = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot be read or made: {error.strerror or error}", where=str(path)) from error
    if len(key) != 32:
        raise StoreError("is not the 32 bytes it was made with", where=str(path), hint=f"remove it, or set {VARIABLE}")
    return key


def _create(path: Path) -> None:
    """Whole or not at all, and the first of several processes wins."""
    draft = path.with_name(f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
