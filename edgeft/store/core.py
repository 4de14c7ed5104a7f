"""The store: content-addressed results of steps, and the only writer of cached outputs."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts, canonical_json, digest_tree
from edgeft.store.claims import Claim, Claims
from edgeft.store.disk import guard, read_json, remove_tree, write_whole
from edgeft.store.layout import FORMAT, Layout, checked, default_root
from edgeft.store.memo import FileMemo
from edgeft.store.objects import check_folder
from edgeft.store.openings import append_opening, read_openings
from edgeft.store.publish import Publisher
from edgeft.store.records import StepResult, make_record, parse_record
from edgeft.store.session import Session, clear_dead, store_lock

if TYPE_CHECKING:
    from edgeft.store.gc import GcReport
    from edgeft.store.usage import Usage


class Store:
    """Results of steps under `root` (default: EDGEFT_STORE, else the platform's cache folder), safe for many processes.

    on_warning is told of damaged records that are set aside. Every refusal of the file system is a StoreError.
    """

    def __init__(self, root: Path | None = None, on_warning: Callable[[str], None] = lambda text: None) -> None:
        self.root = Path(root).absolute() if root is not None else default_root()
        self.layout = Layout(self.root)
        self.on_warning = on_warning
        self.layout.open()
        self.memo = FileMemo(self.layout.memo)
        self._session = Session(self.layout.tmp, self.layout.lock)
        self._publisher = Publisher(self.layout, self.memo, self._session)
        self._claims = Claims(self.layout)
        self._closer = weakref.finalize(self, _close, self._session, self.memo)
        self._clear_dead()

    def close(self) -> None:
        """Remove this process's temporary folders and let its protection from gc go; also done at exit."""
        self._closer()

    def _clear_dead(self) -> None:
        """Remove what killed processes left; whoever else is doing so already is left to it."""
        with guard(self.layout.tmp):
            if not any(self.layout.tmp.iterdir()):
                return
            with store_lock(self.layout.lock):
                dead = clear_dead(self.layout.tmp)
            for path in dead:
                remove_tree(path)

    # Hashes

    def file_digest(self, path: Path) -> str:
        """SHA-256 of a file, remembered by real path, size, times and inode."""
        return self.memo.digest(path)

    def tree_digest(self, path: Path) -> str:
        """`canonical.digest_tree` of a file or folder through the same memory."""
        with guard(path):
            return digest_tree(path, self.memo.digest)

    # Results

    def find(self, key: str) -> StepResult | None:
        """The result of `key`, its object checked; None when there is none. Notes the use: gc takes the oldest first.

        Raises CorruptObject naming step, object and the first wrong, missing or extra file.
        """
        path = self.layout.step(key)
        if not path.exists():
            return None
        self._session.folder()
        with store_lock(self.layout.lock), guard(path):
            found = self._record(key)
            if found is None:
                return None
            self._session.use(key, found.digest)
            os.utime(path)
        self._publisher.check(found)
        return found

    def _record(self, key: str) -> StepResult | None:
        path = self.layout.step(key)
        try:
            return parse_record(read_json(path), key)
        except FileNotFoundError:
            return None
        except ValueError as error:
            self._publisher.set_aside(path)
            self.on_warning(
                f"the record of step {key[:8]} was damaged ({error}); it is set aside and the step runs again"
            )
            return None

    def discard(self, key: str) -> None:
        """Move the object of `key` and every record that names it to `broken/`; does nothing for an unknown key."""
        with store_lock(self.layout.lock), guard(self.layout.broken):
            found = self._record(key)
            if found is not None:
                self._publisher.set_aside_object(found.digest)

    def artifact(self, result: StepResult) -> Artifact:
        """The result as it passes between steps; its path is read-only."""
        return Artifact(cast(Kind, result.kind), self.layout.object(result.digest), result.digest, result.facts)

    def commit(
        self, key: str, material: Mapping[str, Any], kind: str, folder: Path, facts: Facts, seconds: float,
        warnings: tuple[str, ...] = (),
    ) -> StepResult:  # fmt: skip
        """Make `folder` the result of `key`; the folder is taken over (moved away). Whole or not at all.

        Raises StoreError for links and special files in it, facts that are not JSON, and refusals of the disk;
        ValueError when `key` is not the `step_key` of `material`.
        """
        checked(key)
        with guard(folder):
            check_folder(folder)
        record = make_record(key, material, kind, facts, seconds, tuple(warnings))
        return self._publisher.publish(record, folder)

    # Running

    def claim(self, key: str, on_wait: Callable[[str], None] = lambda text: None) -> AbstractContextManager[Claim]:
        """Hold the exclusive right to run `key`; waits for another process that has it, after one call of on_wait.

        After waiting, look with `find` first: the other process may have finished the step.
        """
        return self._claims.claim(key, on_wait)

    def workspace(self) -> AbstractContextManager[Path]:
        """An empty folder on the store's disk, removed on exit; a killed process's is cleared by the next start."""
        return self._session.workspace()

    def finish_scratch(self, key: str) -> None:
        """Remove the scratch folder of a finished step but for its log files (`*.log`, `log.txt`)."""
        self._claims.finish(key)

    def latest(self, recipe: str, step: str) -> Mapping[str, Any] | None:
        """The key material with which this step of this recipe last succeeded, to say what changed."""
        path = self.layout.latest_of(recipe, step)
        try:
            with guard(path):
                if not path.exists():
                    return None
                material = read_json(path)["material"]
        except (ValueError, TypeError, KeyError):
            return None
        return material if isinstance(material, dict) else None

    def last_result(self, recipe: str, step: str) -> StepResult | None:
        """The result this step of this recipe last gave, whatever its key, for estimates; its object is not checked."""
        path = self.layout.latest_of(recipe, step)
        try:
            if not path.exists():
                return None
            key = checked(str(read_json(path)["key"]))
            return parse_record(read_json(self.layout.step(key)), key)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def remember_latest(self, recipe: str, step: str, key: str, material: Mapping[str, Any]) -> None:
        """Note a success for `latest`."""
        path = self.layout.latest_of(recipe, step)
        data = {"format": FORMAT, "recipe": recipe, "step": step, "key": checked(key), "material": material}
        content = canonical_json(data, indent=1)
        with guard(path):
            if not (path.exists() and path.read_bytes() == content):
                write_whole(path, content, self._session.folder())

    # Gate sets

    def record_opening(self, digest: str, build: str, targets: Mapping[str, str], when: str) -> int:
        """Note that a sealed gate set was opened; how often it has been, this time included."""
        temporary = self._session.folder()
        with store_lock(self.layout.lock), guard(self.layout.about):
            if self.layout.opened() and not self.layout.openings.exists():
                self.on_warning(f"{self.layout.openings} is lost: openings of gate sets before this one go uncounted")
            number = append_opening(self.layout.openings, digest, build, targets, when, self.on_warning)
            self.layout.note_opened(temporary)
        return number

    def openings(self, digest: str) -> list[dict[str, Any]]:
        """Openings of one gate set, oldest first: digest, build, targets, when, number."""
        with guard(self.layout.openings):
            found, _ = read_openings(self.layout.openings, self.on_warning)
        return [item for item in found if item["digest"] == digest]

    # Housekeeping and travel

    def usage(self) -> Usage:
        """Bytes and counts per area."""
        from edgeft.store.usage import measure_usage

        return measure_usage(self.layout)

    def gc(self, keep_bytes: int | None = None, keep_days: float | None = None, dry_run: bool = False) -> GcReport:
        """Remove what is not needed, then the least recently used, never what is in use; see `edgeft.store.gc`."""
        from edgeft.store.gc import collect

        return collect(self.layout, self.memo, keep_bytes, keep_days, dry_run)

    def export(self, steps: Mapping[str, str], folder: Path, lineage: Mapping[str, Any]) -> None:
        """Write a portable folder with the results of `steps` (step id -> key); see `edgeft.store.portable`."""
        from edgeft.store.portable import export

        export(self, steps, folder, lineage)

    def import_from(self, folder: Path) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """Take in a portable folder, every byte checked: (step id -> key, lineage); see `edgeft.store.portable`."""
        from edgeft.store.portable import import_from

        return import_from(self, folder)

    def adopt(self, record: StepResult, folder: Path) -> StepResult:
        """Publish a checked record of another store with its folder, which must have the record's digest."""
        with guard(folder):
            check_folder(folder)
        return self._publisher.publish(replace(record), folder, expect=record.digest)


def _close(session: Session, memo: FileMemo) -> None:
    session.close()
    memo.close()
