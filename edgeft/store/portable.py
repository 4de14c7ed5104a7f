"""A store's results as a folder that travels: GPU box to phone desk to CI. What comes back in is checked byte by byte.

FOLDER/lineage.json: {format, steps: id -> key, records: key -> SHA-256 of its record file, lineage: the caller's own}
FOLDER/steps/<key>.json and FOLDER/objects/<digest>/: as in the store. Every path is made of hex digits that were
checked first, so a name inside lineage.json cannot lead out of the folder.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import canonical_json
from edgeft.errors import RecipeError, StoreError
from edgeft.store.disk import copy_tree, free_bytes, guard, human, read_json, remove_tree, sync_file, tree_bytes
from edgeft.store.layout import FORMAT, HEX
from edgeft.store.objects import check_folder
from edgeft.store.records import StepResult, parse_record, to_bytes

if TYPE_CHECKING:
    from edgeft.store.core import Store

LINEAGE_LIMIT = 16 << 20
RECORD_LIMIT = 16 << 20
MAX_STEPS = 10_000


def export(store: Store, steps: Mapping[str, str], folder: Path, lineage: Mapping[str, Any]) -> None:
    """Write `folder` whole or not at all; an earlier export there is replaced, other content is refused."""
    folder = folder.absolute()
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    with guard(folder):
        check_place(folder)
        try:
            _write(store, steps, draft, lineage)
            if folder.exists():
                remove_tree(folder)
            draft.rename(folder)
        finally:
            remove_tree(draft)


def check_place(folder: Path) -> None:
    """RecipeError unless an export may be written there: a new or empty folder, or an earlier export."""
    with guard(folder):
        if folder.exists() and not _is_export(folder):
            what = "is not empty and not an earlier export" if folder.is_dir() else "is a file; a folder is needed"
            raise RecipeError(what, where=f"--export {folder}", hint="choose a new folder")


def _is_export(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or ("lineage.json" in names and names <= {"lineage.json", "steps", "objects"})


def _write(store: Store, steps: Mapping[str, str], draft: Path, lineage: Mapping[str, Any]) -> None:
    (draft / "steps").mkdir(parents=True)
    (draft / "objects").mkdir()
    records: dict[str, str] = {}
    for step, key in steps.items():
        found = store.find(key)
        if found is None:
            raise StoreError(
                f"step '{step}' has no result here (key {key[:8]})", where=str(store.root), hint="build it first"
            )
        data = to_bytes(found)
        records[key] = hashlib.sha256(data).hexdigest()
        (draft / "steps" / f"{key}.json").write_bytes(data)
        target = draft / "objects" / found.digest
        if not target.exists():
            copy_tree(store.layout.object(found.digest), target)
    about = {"format": FORMAT, "steps": dict(steps), "records": records, "lineage": lineage}
    (draft / "lineage.json").write_bytes(canonical_json(about, indent=1))
    for path in draft.rglob("*"):
        if path.is_file():
            sync_file(path)


def import_from(store: Store, folder: Path) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Results of an exported folder into `store`: (step id -> key, the caller's lineage).

    All records are checked before the first object is copied. Raises StoreError, naming the file, for a folder that is
    none or of a newer format, links, oversize or malformed JSON, names that are no keys, content that is not what its
    digest says, and a step that this store already has with other bytes.
    """
    folder = folder.absolute()
    with guard(folder):
        about = _read(folder / "lineage.json", LINEAGE_LIMIT)
        steps = _checked_steps(about, folder)
        records = [_record(folder, key, about["records"]) for key in sorted(set(steps.values()))]
        wanted = [record for record in records if not _present(store, record)]
        _check_room(store, folder, wanted)
        for record in wanted:
            _take_in(store, folder, record)
    return steps, about["lineage"]


def _read(path: Path, limit: int) -> Any:
    try:
        if path.parent.is_symlink():
            raise ValueError("its folder is a link")
        return read_json(path, limit)
    except FileNotFoundError as error:
        what = "is missing: this is not a folder that `edgeft build --to STEP --export` wrote"
        raise RecipeError(what, where=str(path), hint="name that folder with --from") from error
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise StoreError(f"cannot be used: {error}", where=str(path)) from error


def _checked_steps(about: Any, folder: Path) -> dict[str, str]:
    """Step id -> key, after every part of lineage.json has the right form."""
    where = str(folder / "lineage.json")
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise StoreError("is not a lineage of edgeft", where=where)
    if about["format"] > FORMAT:
        raise StoreError(
            f"has format {about['format']}, this edgeft knows {FORMAT}", where=where, hint="upgrade edgeft"
        )
    parts = {name: about.get(name) for name in ("steps", "records", "lineage")}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise StoreError(f"'{name}' is missing or not a mapping", where=where)
    steps = about["steps"]
    if len(steps) > MAX_STEPS:
        raise StoreError(f"names more than {MAX_STEPS} steps", where=where)
    for step, key in steps.items():
        if not isinstance(key, str) or not HEX.match(key):
            raise StoreError(f"step {step[:80]!a} names {str(key)[:80]!a}, which is no key", where=where)
        if not step.isprintable():
            raise StoreError(f"the step name {step[:80]!a} is not plain text", where=where)
    return dict(steps)


def _record(folder: Path, key: str, records: Mapping[str, Any]) -> StepResult:
    path = folder / "steps" / f"{key}.json"
    data = _read(path, RECORD_LIMIT)
    if hashlib.sha256(path.read_bytes()).hexdigest() != records.get(key):
        raise StoreError("is not the record that lineage.json names", where=str(path))
    try:
        return parse_record(data, key)
    except ValueError as error:
        raise StoreError(f"cannot be used: {error}", where=str(path)) from error


def _present(store: Store, record: StepResult) -> bool:
    """True when the store has this result already; another result under the key is refused, not overwritten."""
    found = store.find(record.key)
    if found is not None and found.digest != record.digest:
        raise StoreError(
            f"step {record.name()} exists in this store with other bytes: {found.digest[:12]}, "
            f"imported {record.digest[:12]}",
            where=str(store.root),
            hint="import into an empty store (EDGEFT_STORE=/new/folder), or remove the step here with `edgeft gc`",
        )
    return found is not None


def _check_room(store: Store, folder: Path, wanted: list[StepResult]) -> None:
    sizes = {record.digest: tree_bytes(folder / "objects" / record.digest) for record in wanted}
    need, free = sum(sizes.values()), free_bytes(store.root)
    if free is not None and need > free:
        raise StoreError(
            f"importing needs {human(need)}, {human(free)} are free", where=str(store.root),
            hint="make room with `edgeft gc --keep 20GB`, or use another disk: EDGEFT_STORE=/larger/disk",
        )  # fmt: skip


def _take_in(store: Store, folder: Path, record: StepResult) -> None:
    """Copy first, check the copy: what is checked is then what is kept."""
    source = folder / "objects" / record.digest
    if source.parent.is_symlink():
        raise StoreError("is a link", where=str(source.parent))
    check_folder(source)
    with store.workspace() as work:
        copy = work / "object"
        copy_tree(source, copy)
        try:
            store.adopt(record, copy)
        except StoreError as error:
            raise StoreError(
                f"object of step {record.name()}: {error.what}", where=str(source), hint=error.hint
            ) from error
