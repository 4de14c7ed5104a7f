"""What the log amounts to: versions, what each stage holds, which keys are trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edgeft.errors import RecipeError
from edgeft.ship.registry.log import Entry
from edgeft.ship.registry.names import STAGES, Reference, shown
from edgeft.ship.verify import key_id


@dataclass
class Name:
    """All of one name. versions: in the order they came. held: stage -> versions it holds, the current one last; a
    rollback takes from the end."""

    versions: dict[str, Entry] = field(default_factory=dict)
    held: dict[str, list[str]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def current(self, stage: str) -> str:
        """The version in a stage, empty where there is none."""
        return self.held[stage][-1] if self.held[stage] else ""

    def stages_of(self, version: str) -> list[str]:
        """Where a version is now."""
        return [stage for stage in STAGES if self.current(stage) == version]


@dataclass
class State:
    """The registry as of the last entry. keys: id -> raw public key; fault: an entry that cannot have been written."""

    names: dict[str, Name] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    fault: str = ""

    def name(self, name: str) -> Name:
        """RecipeError for a name that nobody added."""
        if name not in self.names:
            known = ", ".join(sorted(self.names)[:8]) or "none yet"
            raise RecipeError(f"nothing is called {shown(name)}", where="registry", hint=f"there are: {known}")
        return self.names[name]

    def find(self, reference: Reference) -> Entry:
        """The entry that added what a reference names. RecipeError where there is no such version."""
        found = self.name(reference.name)
        version = reference.version or (found.current(reference.stage) if reference.stage else list(found.versions)[-1])
        if version not in found.versions:
            what = f"nothing is in {reference.stage}" if reference.stage else f"there is no version {shown(version)}"
            hint = f"there are: {', '.join(list(found.versions)[-8:])}"
            raise RecipeError(f"{what} of {reference.name}", where="registry", hint=hint)
        return found.versions[version]

    def called(self, digest: str) -> str:
        """`router:2` for a bundle's digest, its beginning where no version has it."""
        for name, row in self.names.items():
            for version, entry in row.versions.items():
                if entry.bundle == digest:
                    return f"{name}:{version}"
        return digest[:12]


def replay(entries: Iterable[Entry]) -> State:
    """Every entry in order, up to one that contradicts those before it."""
    state, taken = State(), list[Entry]()
    for entry in entries:
        if fault := _apply(state, entry):
            state.fault = f"entry {entry.seq}: {fault}"
            break
        taken.append(entry)
    state.entries = tuple(taken)
    return state


def _apply(state: State, entry: Entry) -> str:
    """Take one entry in; what is wrong with it, or empty."""
    if entry.event == "add":
        row = state.names.setdefault(entry.name, Name())
        if not (entry.name and entry.version and entry.bundle) or entry.version in row.versions:
            return "adds a version that is there already, or none"
        row.versions[entry.version] = entry
        return ""
    if entry.event in ("trust", "distrust"):
        if entry.event == "trust":
            if key_id(bytes.fromhex(entry.public)) != entry.key:
                return "trusts a key under another one's id"
            state.keys[entry.key] = bytes.fromhex(entry.public)
        elif state.keys.pop(entry.key, None) is None:
            return "distrusts a key that was not trusted"
        return ""
    known = state.names.get(entry.name)
    if known is None or entry.version not in known.versions or not entry.stage:
        return "promotes what was never added"
    if known.versions[entry.version].bundle != entry.bundle:
        return "promotes another bundle than the version's"
    held = known.held[entry.stage]
    if entry.event == "rollback":
        if entry.version not in held[:-1]:
            return "rolls back to what was not there before"
        while held[-1] != entry.version:
            held.pop()
    else:
        held.append(entry.version)
    return ""


def next_version(name: Name | None) -> str:
    """1, 2, 3, ...: one above the largest whole number among the versions."""
    numbers = [int(version) for version in (name.versions if name else ()) if version.isascii() and version.isdigit()]
    return str(max(numbers, default=0) + 1)
