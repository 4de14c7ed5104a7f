"""The log: one entry a file, each with the hash of the one before, so that what was edited is told.

A file of its own, because object stores cannot append, and because to create number N+1 is what two writers race for:
one gets it, the other reads what happened and tries again. `cat log/*.json` is the log as JSON lines.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.canonical import canonical_json
from edgeft.ship import verify
from edgeft.ship.registry.names import NAME, VERSION, RegistryError
from edgeft.ship.registry.place import INCOMING, Place

ABOUT, LOG, BUNDLES, SIGNATURES = "registry.json", "log", "bundles", "signatures"
OWN = frozenset({ABOUT, LOG, BUNDLES, SIGNATURES, INCOMING})
FORMAT = 1
MAX_ENTRY = 1 << 16
TRIES = 200
HEX = r"^[0-9a-f]{64}$"


class Entry(BaseModel):
    """One thing that happened. before: SHA-256 of the entry before, or of registry.json. bundle, parent: digests of
    manifests. key: id of a signing key: whose signature was relied on, or which is trusted from here on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seq: int = Field(ge=1)
    before: str = Field(pattern=HEX)
    at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    event: Literal["add", "promote", "rollback", "trust", "distrust"]
    by: str = Field("", max_length=1000)
    reason: str = Field("", max_length=1000)
    name: str = Field("", pattern=rf"^({NAME.pattern})?$")
    version: str = Field("", pattern=rf"^({VERSION.pattern})?$")
    bundle: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    parent: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    stage: Literal["", "staging", "production"] = ""
    key: str = Field("", pattern=r"^([0-9a-f]{32})?$")
    public: str = Field("", pattern=r"^([0-9a-f]{64})?$")

    def line(self) -> bytes:
        """The bytes that are written and hashed: canonical JSON, fields that say nothing left out."""
        return canonical_json(self.model_dump(exclude_defaults=True)) + b"\n"


@dataclass(frozen=True)
class Log:
    """Entries up to the first that does not fit. head: hash that the next one must hold; fault: what is wrong."""

    entries: tuple[Entry, ...]
    head: str
    fault: str = ""


def digest(data: bytes) -> str:
    """SHA-256, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def found(place: Place) -> bytes | None:
    """registry.json, None where there is no registry. RegistryError for a format that is not known."""
    try:
        raw = place.read(ABOUT, MAX_ENTRY)
    except FileNotFoundError:
        return None
    try:
        about = verify.parse_json(raw, "registry", ABOUT)
    except verify.Refused as refusal:
        raise RegistryError(str(refusal), where=f"{place.location}/{ABOUT}", hint="restore it from a backup") from None
    if about.get("format") != FORMAT:
        raise RegistryError(
            f"format {verify.shown(about.get('format'))}; this edgeft knows {FORMAT}",
            where=f"{place.location}/{ABOUT}",
            hint="upgrade edgeft",
        )
    return raw


def open_registry(place: Place, *, create: bool = False) -> tuple[bytes, bool]:
    """(registry.json, whether it is new). RegistryError where there is none, or where other things lie."""
    raw = found(place)
    if raw is not None:
        return raw, False
    others = [name for name in place.names("") if name not in OWN]
    if not create or others:
        what = f"holds other things ({', '.join(map(verify.shown, others[:3]))})" if others else "is no registry"
        raise RegistryError(what, where=place.location, hint="`edgeft registry add` makes one in an empty place")
    # The random id ties a log to its registry: the first entry holds this file's hash.
    raw = canonical_json({"format": FORMAT, "id": secrets.token_hex(16)}) + b"\n"
    try:
        place.create(ABOUT, raw)
    except FileExistsError:
        return place.read(ABOUT, MAX_ENTRY), False
    return raw, True


def read_log(place: Place) -> Log:
    """Every entry, checked: numbered without a gap, in canonical form, each with the hash of the one before."""
    about, _ = open_registry(place)
    head, entries = digest(about), list[Entry]()
    for number, name in enumerate(place.names(LOG), 1):
        where = f"{LOG}/{verify.shown(name)}"
        if name != file_name(number):
            wrong = "does not belong there" if not _is_numbered(name) else f"follows a gap: {number} is missing"
            return Log(tuple(entries), head, f"{where} {wrong}")
        try:
            raw = place.read(f"{LOG}/{name}", MAX_ENTRY)
            entry = parse_entry(raw)
        except FileNotFoundError:
            return Log(tuple(entries), head, f"{where} cannot be read")
        except ValueError as error:
            return Log(tuple(entries), head, f"{where} {error}")
        if entry.seq != number or entry.before != head:
            return Log(tuple(entries), head, f"{where} does not follow the entry before it: one of the two was edited")
        entries.append(entry)
        head = digest(raw)
    return Log(tuple(entries), head)


def parse_entry(raw: bytes) -> Entry:
    """ValueError for what `Entry.line` did not write."""
    try:
        entry = Entry.model_validate(verify.parse_json(raw, "log", "the entry"))
    except verify.Refused as refusal:
        raise ValueError(f"was edited: {refusal}") from None
    except ValidationError as error:
        raise ValueError(f"was edited: {error.errors()[0]['msg']}") from None
    if entry.line() != raw:
        raise ValueError("was edited: it is not as it was written")
    return entry


def append(place: Place, make: Callable[[Log], dict[str, Any] | None]) -> Entry | None:
    """Add what `make` says of the log as it stands; it is asked again whenever another writer was first.

    None where it says that there is nothing to add. RegistryError for a log that does not hold together.
    """
    for _ in range(TRIES):
        log = read_log(place)
        if log.fault:
            raise broken(place, log.fault)
        fields = make(log)
        if fields is None:
            return None
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        entry = Entry(seq=len(log.entries) + 1, before=log.head, at=now, **fields)
        try:
            place.create(f"{LOG}/{file_name(entry.seq)}", entry.line())
        except FileExistsError:
            continue
        return entry
    raise RegistryError(f"other writers were first {TRIES} times", where=place.location, hint="try again")


def broken(place: Place, fault: str) -> RegistryError:
    """The error for a log that does not hold together."""
    return RegistryError(
        f"the log does not hold together: {fault}",
        where=place.location,
        hint="nothing is written to it any more; restore the log from a backup and find out who changed it",
    )


def file_name(number: int) -> str:
    """00000001.json: sorted by name is sorted by number."""
    return f"{number:08d}.json"


def _is_numbered(name: str) -> bool:
    return len(name) == 13 and name.endswith(".json") and name[:8].isascii() and name[:8].isdigit()
