"""What can be done with a registry: add, promote, roll back, trust a key, read. Nothing can be removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import RecipeError
from edgeft.ship import verify
from edgeft.ship.bundle import find_bundle
from edgeft.ship.registry import log as journal
from edgeft.ship.registry.bundles import Stored, put_bundle, raise_damage, read_manifest, trusted_signature
from edgeft.ship.registry.facts import BundleFacts, read_facts
from edgeft.ship.registry.index import Index, index_file
from edgeft.ship.registry.log import Entry, Log
from edgeft.ship.registry.names import (
    NotPromotable,
    Reference,
    Stage,
    Undecided,
    checked_name,
    checked_version,
    parse_reference,
    shown,
)
from edgeft.ship.registry.place import Place, open_place
from edgeft.ship.registry.state import State, next_version, replay


@dataclass(frozen=True)
class Added:
    """entry: what the log says; stored: the bundle; again: the version was there already; fresh: so is the registry."""

    entry: Entry
    stored: Stored
    again: bool
    fresh: bool


class Registry:
    """One registry. Every answer is worked out from the place; the index only saves reading."""

    def __init__(self, location: str, index: Path | None = None) -> None:
        self.place: Place = open_place(location)
        # What lies in this process's memory ends with it, and so must what is remembered of it.
        memory = Path(":memory:") if self.place.location.startswith("memory://") else None
        self.index_path = index or memory or index_file(self.place.location)
        self.index = Index(self.index_path)

    def read(self) -> State:
        """The state; `fault` says where the log does not hold together. RegistryError where there is no registry."""
        known = self.index.head()
        raw, _ = journal.open_registry(self.place)
        log, about = journal.read_log(self.place), journal.digest(raw)
        state = replay(log.entries)
        state.fault = log.fault or state.fault
        if not state.fault and known and (cut := known.cut(about, log)):
            state.fault = f"{cut} (remembered in {self.index_path}; remove that file if this is right)"
        if not state.fault:
            self.index.remember(about, log)
        return state

    def sound(self) -> State:
        """The state, for those who build on it. RegistryError where the log does not hold together."""
        state = self.read()
        if state.fault:
            raise journal.broken(self.place, state.fault)
        return state

    def facts(self, digest: str) -> BundleFacts:
        """What a stored bundle says of itself."""
        return self.index.facts(digest, lambda name: read_facts(self.place, name))

    def add(self, folder: Path, name: str = "", version: str = "", parent: str = "", by: str = "") -> Added:
        """Store a bundle and give it a version. The same bundle again is the version that it has.

        parent: reference to the version it derives from or was compared with. RecipeError for names that cannot be,
        versions that are taken, and a bundle for another device than the name's.
        """
        name = checked_name(name or _own_name(folder))
        if version:
            checked_version(version)
        _, fresh = journal.open_registry(self.place, create=True)
        self.sound()
        stored = put_bundle(self.place, folder)
        facts = self.facts(stored.digest)
        taken: list[Entry] = []

        def make(log: Log) -> dict[str, Any] | None:
            state = replay(log.entries)
            held = state.names.get(name)
            rows = list(held.versions.values()) if held else []
            same = [row for row in rows if row.bundle == stored.digest]
            if same and version in ("", same[0].version):
                taken[:] = same[:1]
                return None
            self._refuse_taken(name, version, rows, facts)
            row = {"event": "add", "name": name, "version": version or next_version(held), "bundle": stored.digest}
            above = state.find(parse_reference(parent)).bundle if parent else ""
            return {**row, "by": by, "parent": above}

        entry = journal.append(self.place, make)
        return Added(entry or taken[0], stored, entry is None, fresh)

    def _refuse_taken(self, name: str, version: str, rows: list[Entry], facts: BundleFacts) -> None:
        for row in rows:
            if row.version == version:
                raise RecipeError(
                    f"{name}:{version} is there already and is another bundle", where="--version",
                    hint="a version never changes: give another one, or none for the next number",
                )  # fmt: skip
            if row.bundle == facts.digest:
                raise RecipeError(
                    f"this bundle is {name}:{row.version} already", where="--version", hint="leave --version out"
                )
        if rows and (other := self.facts(rows[-1].bundle).device) != facts.device:
            raise RecipeError(
                f"{name} is for {shown(other)}, this bundle is for {shown(facts.device)}", where="--name",
                hint=f"one name, one device: --name {name}-{facts.device}"[:90],
            )  # fmt: skip

    def promote(
        self, reference: Reference, stage: Stage, by: str, reason: str, keys: Mapping[str, bytes] | None = None
    ) -> Entry:
        """Put a version into a stage, if its verdict is PASS, its files are whole and a trusted key signed it.

        keys: id -> raw public key; None: those that the registry trusts. NotPromotable says which of it is not so.
        """
        row = self.sound().find(reference)
        self._refuse_unfit(row)

        def make(log: Log) -> dict[str, Any]:
            state = replay(log.entries)
            if state.name(row.name).current(stage) == row.version:
                raise RecipeError(f"{row.name}:{row.version} is in {stage} already", where="registry")
            signer, _ = trusted_signature(self.place, row.bundle, state.keys if keys is None else keys)
            return {**_moved(row, stage, by, reason), "event": "promote", "key": signer}

        return _made(journal.append(self.place, make))

    def rollback(
        self, name: str, stage: Stage, to: str, by: str, reason: str, keys: Mapping[str, bytes] | None = None
    ) -> Entry:
        """Put back what the stage held before (or the version `to`, if it held that), by the rules of `promote`."""
        checked_name(name)

        def make(log: Log) -> dict[str, Any]:
            state = replay(log.entries)
            known = state.name(name)
            earlier = known.held[stage][:-1]
            version = checked_version(to) if to else earlier[-1] if earlier else ""
            if version not in earlier:
                what = f"{name}:{to} was not in {stage} before" if to else f"{stage} of {name} held nothing before"
                hint = f"it held {', '.join(earlier)}" if earlier else "`registry promote` puts a version there"
                raise RecipeError(what, where="registry", hint=hint)
            row = known.versions[version]
            self._refuse_unfit(row)
            signer, _ = trusted_signature(self.place, row.bundle, state.keys if keys is None else keys)
            return {**_moved(row, stage, by, reason), "event": "rollback", "key": signer}

        self.sound()
        return _made(journal.append(self.place, make))

    def _refuse_unfit(self, row: Entry) -> None:
        """NotPromotable unless every blocking gate passed; RegistryError where a file was changed."""
        raise_damage(self.place, row.bundle, deep=True)
        facts = self.facts(row.bundle)
        _, manifest = read_manifest(self.place, row.bundle)
        where = f"{row.name}:{row.version}"
        if facts.problems:
            raise NotPromotable(facts.problems[0], where=where, hint="build it anew")
        failed = [verdict for verdict in facts.verdicts if verdict.severity != "warn" and verdict.status != "PASS"]
        status = failed[0].status if failed else facts.status
        if status == "PASS":
            if verify.NOT_SHIPPED in manifest["files"]:
                raise NotPromotable(f"it holds {verify.NOT_SHIPPED}", where=where, hint="build it anew")
            return
        kind = Undecided if status == "INCONCLUSIVE" else NotPromotable
        named = f" ({failed[0].gate})" if failed else ""
        raise kind(f"its verdict is {status}{named}", where=where, hint="only PASS is promoted")

    def trust(self, public: bytes, by: str, reason: str) -> Entry:
        """Trust a signing key from here on."""
        name = verify.key_id(public)

        def make(log: Log) -> dict[str, Any]:
            if name in replay(log.entries).keys:
                raise RecipeError(f"key {name} is trusted already", where="registry")
            return {"event": "trust", "key": name, "public": public.hex(), "by": by, "reason": reason}

        journal.open_registry(self.place, create=True)
        self.sound()
        return _made(journal.append(self.place, make))

    def distrust(self, key: str, by: str, reason: str) -> Entry:
        """Trust a key no more. What it released stays released; nothing more is promoted on it."""

        def make(log: Log) -> dict[str, Any]:
            if key not in replay(log.entries).keys:
                raise RecipeError(
                    f"key {shown(key)} is not trusted", where="registry", hint="`registry show` lists them"
                )
            return {"event": "distrust", "key": key, "by": by, "reason": reason}

        self.sound()
        return _made(journal.append(self.place, make))


def _own_name(folder: Path) -> str:
    """What the bundle calls itself."""
    try:
        raw = verify.read_small(find_bundle(folder) / verify.MANIFEST, verify.MAX_MANIFEST_BYTES, "manifest")
        return str(verify.parse_manifest(raw).get("name", ""))
    except verify.Refused as refusal:
        raise RecipeError(f"is no bundle: {refusal}", where=str(folder)) from refusal


def _moved(row: Entry, stage: Stage, by: str, reason: str) -> dict[str, Any]:
    return {
        "name": row.name, "version": row.version, "bundle": row.bundle, "stage": stage, "by": by, "reason": reason,
    }  # fmt: skip


def _made(entry: Entry | None) -> Entry:
    if entry is None:
        raise ValueError("nothing was written")
    return entry
