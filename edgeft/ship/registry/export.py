"""A version copied out of a registry, as a receiver gets it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from edgeft.errors import RecipeError
from edgeft.ship import verify
from edgeft.ship.registry.bundles import raise_damage, read_manifest, signatures, trusted_signature
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.log import BUNDLES
from edgeft.ship.registry.names import NotPromotable, Reference, RegistryError
from edgeft.store.disk import guard, remove_tree


def export_bundle(registry: Registry, reference: Reference, out: Path, keys: Mapping[str, bytes] | None) -> str:
    """Copy the bundle with a signature into a new folder; what to say of the signature.

    keys: NotPromotable unless one of them signed; None: a signature that the registry trusts where there is one, else
    any, and it is said. RegistryError where a file was changed.
    """
    state = registry.sound()
    entry = state.find(reference)
    if out.exists():
        raise RecipeError("is there already", where=str(out), hint="name a new folder")
    raise_damage(registry.place, entry.bundle)
    try:
        _, mark = trusted_signature(registry.place, entry.bundle, state.keys if keys is None else keys)
        said = "with a trusted signature"
    except NotPromotable as refusal:
        if keys is not None:
            raise
        found = signatures(registry.place, entry.bundle)
        mark, said = (found[0] if found else b""), f"not trusted: {refusal.what}"
    _copy(registry, entry.bundle, out, mark)
    return f"{entry.name}:{entry.version}, {said}"


def _copy(registry: Registry, name: str, out: Path, mark: bytes) -> None:
    """The very bytes whose hashes were taken, under the final name once they are whole."""
    raw, manifest = read_manifest(registry.place, name)
    fresh = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        with registry.place.fetch(f"{BUNDLES}/{name}") as folder, guard(fresh):
            fresh.mkdir(parents=True)
            if faults := verify.file_faults(folder, manifest["files"], keep=fresh):
                where = f"{registry.place.location}/{BUNDLES}/{name}"
                hint = "nothing in a registry may be changed; restore it from a backup"
                raise RegistryError(f"the bundle was changed: {faults[0]}", where=where, hint=hint)
            (fresh / verify.MANIFEST).write_bytes(raw)
            if mark:
                (fresh / verify.SIGNATURE).write_bytes(mark)
            fresh.rename(out)
    finally:
        if fresh.exists():
            remove_tree(fresh)
