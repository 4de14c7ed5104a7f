"""Which cases a side was trained on: its bundle's salted hashes of groups, and the salt that its builder gives."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import RecipeError
from edgeft.ship.bundle import Bundle
from edgeft.ship.check.cases import BY, FOLDERS
from edgeft.ship.check.sides import Contender, Role
from edgeft.ship.check.stated import SCANS, counted_patients
from edgeft.ship.provenance import GROUPS, SALT_FILE, name_hash
from edgeft.stage import SPLITS
from edgeft.tasks.tokenizer import read_json

if TYPE_CHECKING:
    import pyarrow as pa

TRAIN = "train"
SALT_BYTES = 32
PROVENANCE = "provenance.json"
WHERE = "--split-salt"


@dataclass(frozen=True)
class Members:
    """Who was in which split of a side's build. column: whose values are its groups, None: each row by its name;
    hidden: such values are pseudonyms; prefixed: names begin with their split. splits: hash -> split."""

    role: Role
    column: str | None
    hidden: bool
    prefixed: bool
    splits: Mapping[str, str]


@dataclass(frozen=True)
class Lookup:
    """Sides whose groups are known, one at least, and salts of which any may be any side's."""

    salts: tuple[bytes, ...]
    members: tuple[Members, ...]


@dataclass(frozen=True)
class Known:
    """What is known of the cases. trained: how many a side was trained on. why: in words, empty for none."""

    trained: int
    why: str
    notes: tuple[str, ...]


def read_salts(paths: Sequence[Path]) -> list[bytes]:
    """As builds write them beside their reports. RecipeError for anything else."""
    found = []
    for path in paths:
        try:
            salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            hint = f"out/NAME/{SALT_FILE}, which is written beside a build's report"
            raise RecipeError("this file is no salt, or cannot be read", where=f"{WHERE} {path}", hint=hint) from error
        if len(salt) != SALT_BYTES:
            raise RecipeError(f"a salt has {SALT_BYTES} bytes, this {len(salt)}", where=f"{WHERE} {path}")
        found.append(salt)
    return found


def read_members(salts: Sequence[Path], sides: Sequence[Contender]) -> tuple[Lookup, list[str]]:
    """(of each side that says it, notes on those that do not). salts: files.

    RecipeError, before any case is read, where no side says it, the two name their groups differently, or groups are
    rows of a table, whose numbers say nothing of another table.
    """
    known, found, notes = read_salts(salts), [], []
    for side in sides:
        if side.bundle is None or not (side.bundle.folder / GROUPS).is_file():
            notes.append(f"the {side.role} holds no {GROUPS}: what it was trained on is not known")
            continue
        found.append(_members(side.role, side.bundle))
    if not found:
        raise RecipeError(f"neither side is a bundle with {GROUPS}", where=WHERE, hint="leave it out")
    columns = {(each.column, each.hidden) for each in found}
    if len(columns) > 1:
        named = " and ".join(f"the {each.role}'s are {_named(each)}" for each in found)
        raise RecipeError(f"the groups cannot be looked up together: {named}", where=WHERE, hint="leave it out")
    return Lookup(tuple(known), tuple(found)), notes


def look_up(lookup: Lookup, rows: pa.Table) -> Known:
    """Of the cases, by the column `group`, or BY + name of one that was not to be hidden."""
    members, salts = lookup.members, lookup.salts
    column = f"{BY}{members[0].column}"
    names = rows.column(column if column in rows.column_names else "group").to_pylist()
    trained: set[int] = set()
    parts, notes = [], []
    for side in members:
        homes = [_home(side, salts, name) for name in names]
        counts = Counter(home for home in homes if home)
        trained |= {place for place, home in enumerate(homes) if home == TRAIN}
        if counts[TRAIN]:
            parts.append(f"the {side.role} was trained on {counts[TRAIN]:,} of the {len(names):,} cases")
        if others := {split: n for split, n in counts.items() if split not in (TRAIN, "gate")}:
            said = ", ".join(f"{n:,} of {split}" for split, n in sorted(others.items()))
            notes.append(f"the {side.role}'s build used more of the cases to choose or calibrate it: {said}")
        if not counts:
            what = f"no case stands in the {side.role}'s {GROUPS} by {_named(side)} and this salt"
            notes.append(f"{what}: it never saw them, or the salt, or the key of pseudonyms, is another build's")
    why = f"{' and '.join(parts)}, and a model is not judged by what it was trained on" if parts else ""
    return Known(len(trained), why, (why, *notes) if why else tuple(notes))


def group_by(lookup: Lookup, volumes: bool) -> tuple[str | None, Collection[str]]:
    """(column that groups the cases, columns to be read as they are written): pseudonyms where the build had them."""
    first = lookup.members[0]
    if first.column is None or first.hidden or not volumes:
        return first.column, ()
    return None, (first.column,)


def _members(role: Role, bundle: Bundle) -> Members:
    about: dict[str, Any] = read_json(bundle.folder / PROVENANCE)
    source, division = about.get("source"), about.get("division")
    stated: dict[str, Any] = source if isinstance(source, dict) else {}
    name, options = str(stated.get("source", "")), stated.get("options")
    column = about.get("group") or counted_patients(name, options if isinstance(options, dict) else {})
    if column is None and name not in (*FOLDERS, *SCANS):
        what = f"the {role} was built without data.group: its groups are rows of source '{name}' by their numbers"
        raise RecipeError(what, where=WHERE, hint="those say nothing of another file; leave it out")
    prefixed = isinstance(division, dict) and division.get("by") == "paths"
    return Members(role, column, name in SCANS, prefixed and column is None, _splits(bundle.folder / GROUPS))


def _splits(path: Path) -> dict[str, str]:
    """Hash -> split. RecipeError for a table that is none."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return {row["group"]: row["split"] for row in rows}
    except (OSError, UnicodeError, csv.Error, KeyError) as error:
        raise RecipeError(f"{GROUPS} cannot be read", where=str(path), hint="copy the bundle again, whole") from error


def _home(side: Members, salts: Sequence[bytes], name: str) -> str:
    """The split a case's group was in; empty where it was in none."""
    names = [f"{split}:{name}" for split in SPLITS] if side.prefixed else [name]
    hashes = (name_hash(salt, each) for salt in salts for each in names)
    return next((side.splits[found] for found in hashes if found in side.splits), "")


def _named(side: Members) -> str:
    """What its groups are, in words."""
    if side.column is None:
        return "names of files"
    return f"pseudonyms of the column '{side.column}'" if side.hidden else f"values of the column '{side.column}'"
