"""Bundles in a registry: put in by the digest of their manifest, checked against it, asked who signed them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import RecipeError
from edgeft.ship import verify
from edgeft.ship.bundle import find_bundle
from edgeft.ship.registry.log import BUNDLES, SIGNATURES, digest
from edgeft.ship.registry.names import NotPromotable, RegistryError, Undecided
from edgeft.ship.registry.place import Place


@dataclass(frozen=True)
class Stored:
    """A bundle as it was put in. size: bytes of all its files; new: whether they were not there before."""

    digest: str
    manifest: Mapping[str, Any]
    size: int
    new: bool


def put_bundle(place: Place, folder: Path) -> Stored:
    """Check every file and store those very bytes, once. RecipeError for what is no whole bundle.

    A signature that the registry does not have yet is stored beside it.
    """
    source = find_bundle(folder)
    try:
        raw = verify.read_small(source / verify.MANIFEST, verify.MAX_MANIFEST_BYTES, "manifest")
        manifest = verify.parse_manifest(raw)
        mark = signature_of(source)
    except verify.Refused as refusal:
        raise _unsound(str(refusal), source) from refusal
    name = digest(raw)
    new = verify.MANIFEST not in place.names(f"{BUNDLES}/{name}")
    if new:
        with place.draft() as draft:
            if faults := verify.file_faults(source, manifest["files"], keep=draft / "bundle"):
                raise _unsound(faults[0], source)
            (draft / "bundle" / verify.MANIFEST).write_bytes(raw)
            if mark:
                (draft / "bundle" / verify.SIGNATURE).write_bytes(mark)
            place.publish(draft / "bundle", f"{BUNDLES}/{name}")
    elif faults := verify.file_faults(source, manifest["files"]):
        raise _unsound(faults[0], source)
    raise_damage(place, name)
    if mark and mark not in signatures(place, name):
        _keep_signature(place, name, mark)
    return Stored(name, manifest, sum(row["bytes"] for row in manifest["files"].values()), new)


def _unsound(what: str, folder: Path) -> RecipeError:
    return RecipeError(f"is no whole bundle: {what}", where=str(folder), hint="copy it again, or build it anew")


def signature_of(folder: Path) -> bytes:
    """manifest.sig as it lies there, empty where there is none. verify.Refused where it is too large or no file."""
    path = folder / verify.SIGNATURE
    return verify.read_small(path, verify.MAX_SIGNATURE_BYTES, "signature") if path.exists() else b""


def _keep_signature(place: Place, name: str, mark: bytes) -> None:
    try:
        place.create(f"{SIGNATURES}/{name}/{digest(mark)[:32]}.sig", mark)
    except FileExistsError:  # another writer brought the same one
        return


def read_manifest(place: Place, name: str) -> tuple[bytes, dict[str, Any]]:
    """(bytes, parsed) of a stored bundle. RegistryError where it is gone or is another one."""
    where = f"{place.location}/{BUNDLES}/{name}"
    try:
        raw = place.read(f"{BUNDLES}/{name}/{verify.MANIFEST}", verify.MAX_MANIFEST_BYTES)
        if digest(raw) != name:
            raise RegistryError("its manifest was changed", where=where, hint="restore the bundle from a backup")
        return raw, verify.parse_manifest(raw)
    except FileNotFoundError:
        raise RegistryError("the bundle is gone", where=where, hint="restore it from a backup") from None
    except verify.Refused as refusal:
        raise RegistryError(str(refusal), where=where, hint="restore the bundle from a backup") from refusal


def quick_faults(place: Place, name: str) -> list[str]:
    """What is missing, too much or of another size: one listing, nothing is read but the manifest."""
    try:
        _, manifest = read_manifest(place, name)
    except RegistryError as error:
        return [error.what]
    found = place.sizes(f"{BUNDLES}/{name}")
    faults = []
    for file, row in sorted(manifest["files"].items()):
        size = found.pop(file, None)
        if size is None:
            faults.append(f"{file} is missing")
        elif size != row["bytes"]:
            faults.append(f"{file} is not the file that was bundled")
    return faults + [
        f"{verify.shown(file)} does not belong to the bundle"
        for file in sorted(found)
        if file not in (verify.MANIFEST, verify.SIGNATURE)
    ]


def all_faults(place: Place, name: str) -> list[str]:
    """As `quick_faults`, and the hash of every file; from an object store every file is fetched for it."""
    if faults := quick_faults(place, name):
        return faults
    _, manifest = read_manifest(place, name)
    with place.fetch(f"{BUNDLES}/{name}") as folder:
        return verify.file_faults(folder, manifest["files"])


def raise_damage(place: Place, name: str, *, deep: bool = False) -> None:
    """RegistryError for a stored bundle that is not as it was put in."""
    if faults := all_faults(place, name) if deep else quick_faults(place, name):
        raise RegistryError(
            f"the bundle was changed: {faults[0]}",
            where=f"{place.location}/{BUNDLES}/{name}",
            hint="nothing in a registry may be changed; restore it from a backup",
        )


def signatures(place: Place, name: str) -> list[bytes]:
    """All signatures of a bundle: the one it came with, and those that came later."""
    names = [f"{SIGNATURES}/{name}/{file}" for file in place.names(f"{SIGNATURES}/{name}")]
    if verify.SIGNATURE in place.names(f"{BUNDLES}/{name}"):
        names.insert(0, f"{BUNDLES}/{name}/{verify.SIGNATURE}")
    return [place.read(file, verify.MAX_SIGNATURE_BYTES) for file in names]


def trusted_signature(place: Place, name: str, keys: Mapping[str, bytes]) -> tuple[str, bytes]:
    """(key id, signature) of the first that one of these keys made. NotPromotable where none did."""
    raw, _ = read_manifest(place, name)
    where = f"{BUNDLES}/{name[:12]}"
    found = signatures(place, name)
    if not keys:
        raise Undecided("no key was given to ask who signed it", where=where, hint="--key PUB, or `registry trust PUB`")
    said = "the bundle is not signed"
    with tempfile.TemporaryDirectory(prefix="edgeft-registry-") as folder:
        path = Path(folder) / verify.SIGNATURE
        for mark in found:
            path.write_bytes(mark)
            try:
                signer, told = verify.check_signature(path, raw, keys)
            except verify.Refused as refusal:
                said = str(refusal)
                continue
            if signer:
                return signer, mark
            said = told
    raise NotPromotable(said, where=where, hint="`edgeft sign` it with a key that is trusted here, and add it again")
