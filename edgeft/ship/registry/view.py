"""What is shown of a registry: every version with what its bundle says and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgeft.ship.registry.bundles import all_faults, quick_faults, signatures
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.facts import BundleFacts
from edgeft.ship.registry.log import BUNDLES, Entry
from edgeft.ship.registry.names import RegistryError
from edgeft.ship.registry.place import INCOMING
from edgeft.ship.registry.state import State


@dataclass(frozen=True)
class VersionRow:
    """facts: None where the bundle cannot be read any more. signed: how many signatures lie beside it, unchecked."""

    entry: Entry
    stages: list[str]
    parent: str
    signed: int = 0
    facts: BundleFacts | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """`router:2`."""
        return f"{self.entry.name}:{self.entry.version}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.entry.name,
            "version": self.entry.version,
            "added": self.entry.at,
            "by": self.entry.by,
            "bundle": self.entry.bundle,
            "parent": self.parent,
            "stages": self.stages,
            "signatures": self.signed,
            "faults": self.faults,
            "facts": self.facts.model_dump(mode="json") if self.facts else None,
        }


def version_rows(registry: Registry, state: State, name: str = "") -> list[VersionRow]:
    """Every version of one name or of all, oldest first; files are compared by name and size."""
    names = {name: state.name(name)} if name else dict(sorted(state.names.items()))
    return [version_row(registry, state, entry) for row in names.values() for entry in row.versions.values()]


def version_row(registry: Registry, state: State, entry: Entry, *, deep: bool = False) -> VersionRow:
    """One version. deep: every file's hash is taken, else names and sizes are compared."""
    place, stages = registry.place, state.name(entry.name).stages_of(entry.version)
    parent = state.called(entry.parent) if entry.parent else ""
    faults = (all_faults if deep else quick_faults)(place, entry.bundle)
    try:
        facts = registry.facts(entry.bundle)
        signed = len(signatures(place, entry.bundle))
    except RegistryError as error:
        return VersionRow(entry, stages, parent, faults=faults or [error.what])
    return VersionRow(entry, stages, parent, signed, facts, [*faults, *(p for p in facts.problems if p not in faults)])


def loose_ends(registry: Registry, state: State) -> list[str]:
    """What lies in the place without being part of the registry, in sentences. Nothing of it is used."""
    place = registry.place
    named = {entry.bundle for row in state.names.values() for entry in row.versions.values()}
    extra = [name for name in place.names(BUNDLES) if name not in named]
    drafts = place.names(INCOMING)
    found = []
    if extra:
        found.append(
            f"{len(extra)} of bundles/ with no version: an addition that did not end, or was put there by hand"
        )
    if drafts:
        found.append(f"{len(drafts)} in {INCOMING}/: additions that run now, or were killed (then it may be removed)")
    return found
