"""manifest.sig: who vouches for a bundle. It signs the manifest, which holds the hash of every other file."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from edgeft.errors import EdgeftError, RecipeError
from edgeft.ship.keys import Signer
from edgeft.ship.verify import DOMAIN, SIGNATURE, canonical, verify_folder


class UnsignableError(EdgeftError):
    """A bundle that may not be signed: changed, or not passed."""


def sign_folder(folder: Path, signer: Signer, *, replace: bool = False) -> None:
    """Write manifest.sig, after every hash was checked. UnsignableError for what was changed or did not pass its gates.

    replace: over another signature, when a key is rotated.
    """
    place = folder / SIGNATURE
    if os.path.lexists(place) and not replace:
        raise RecipeError("the bundle is signed already", where=str(place), hint="--replace puts your signature there")
    found = verify_folder(folder, {})
    faults = [row.said for row in found.findings if row.verdict == "fail" and row.check != "signature"]
    if faults:
        raise UnsignableError(f"it may not be signed: {faults[0]}", where=str(folder), hint="build it anew")
    row = {
        "algorithm": "ed25519",
        "key_id": signer.id,
        "signature": base64.b64encode(signer.private.sign(DOMAIN + found.raw)).decode("ascii"),
    }
    fresh = place.with_name(f".{SIGNATURE}.{os.getpid()}")
    try:
        fresh.write_bytes(canonical(row))
        fresh.replace(place)
    except OSError as error:
        raise EdgeftError(f"cannot be written: {error.strerror}", where=str(place)) from error
    finally:
        fresh.unlink(missing_ok=True)
