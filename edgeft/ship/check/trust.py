"""Whether a baseline is what it is taken for: released, and signed by someone the user trusts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeft.errors import RecipeError
from edgeft.ship.bundle import Bundle
from edgeft.ship.check.sides import Contender
from edgeft.ship.verify import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SIGNATURE,
    Refused,
    check_signature,
    parse_manifest,
    read_keys,
    read_small,
)


def require_released(candidate: Contender, baseline: Contender, *, allow_rejected: bool) -> list[str]:
    """Notes on both sides' own gates. RecipeError for a baseline that was itself refused: it measures no release.

    A candidate may be judged whatever its gates said.
    """
    notes = []
    if baseline.gated not in ("", "passed"):
        if not allow_rejected:
            what = f"this bundle did not pass its own gates ({baseline.gated}): it was not released"
            hint = "name the released bundle; --allow-rejected compares with this one all the same"
            raise RecipeError(what, where=f"--baseline {baseline.path}", hint=hint)
        notes.append(f"the baseline did not pass its own gates ({baseline.gated}): PASS means no worse than that")
    if baseline.bundle is None:
        notes.append("the baseline is a bare model: whether it was released is not known")
    if candidate.gated not in ("", "passed"):
        notes.append(f"the candidate did not pass its own gates ({candidate.gated}), whatever this check says")
    return notes


def require_signer(baseline: Contender, keys: Sequence[Path]) -> tuple[str, list[str]]:
    """(id of the trusted key that signed the baseline, empty where none was named; notes).

    RecipeError where keys are named and none of them signed it: whoever swaps the baseline decides the verdict.
    """
    if baseline.bundle is None:
        if keys:
            raise RecipeError("a bare model has no signature", where="--key", hint="name a signed bundle as --baseline")
        return "", []
    try:
        trusted = read_keys(keys)
        raw = _manifest_bytes(baseline.bundle)
        signer, said = check_signature(baseline.bundle.folder / SIGNATURE, raw, trusted)
    except (OSError, ValueError) as error:
        raise RecipeError(str(error), where="--key", hint="give the public key that the signer published") from error
    except Refused as refusal:
        hint = "take the bundle from where it was released, or name the key it was signed by"
        raise RecipeError(str(refusal), where=f"--baseline {baseline.path}", hint=hint) from refusal
    if trusted and signer is None:
        raise RecipeError(said, where=f"--baseline {baseline.path}", hint="--key asks for a signature to be checked")
    return signer or "", [] if signer else [f"the baseline's signature: {said}"]


def _manifest_bytes(bundle: Bundle) -> bytes:
    """The bytes of the very manifest whose hashes were checked."""
    raw = read_small(bundle.folder / MANIFEST, MAX_MANIFEST_BYTES, "manifest")
    if parse_manifest(raw) != bundle.manifest:
        raise Refused("manifest", f"{MANIFEST} changed while it was read")
    return raw
