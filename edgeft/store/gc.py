"""Making room: what nothing needs first, then what was not used for longest; never what is in use.

In use is a step another process holds a claim on, and everything a living process has found or committed. Openings of
gate sets are evidence and always stay.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgeft.store.claims import is_log
from edgeft.store.disk import file_bytes, guard, read_json, remove_tree, tree_bytes
from edgeft.store.layout import HEX, Layout
from edgeft.store.memo import FileMemo
from edgeft.store.records import StepResult, parse_record
from edgeft.store.session import clear_dead, living_uses, open_lock, store_lock
from edgeft.store.usage import AreaName, measure_usage

_DAY = 86400.0


@dataclass(frozen=True)
class Removal:
    """One thing that was (or, in a dry run, would be) removed, and why."""

    area: AreaName
    name: str
    bytes: int
    why: str


@dataclass(frozen=True)
class GcReport:
    """removed: in order. before, after: bytes of the store. in_use: steps kept because something uses them."""

    removed: tuple[Removal, ...]
    before: int
    after: int
    in_use: int
    dry_run: bool

    @property
    def freed(self) -> int:
        """Bytes freed, or that would be."""
        return self.before - self.after


def collect(layout: Layout, memo: FileMemo, keep_bytes: int | None, keep_days: float | None, dry_run: bool) -> GcReport:
    """Remove: leftovers, damaged and unnamed objects, scratch of finished steps; then steps and unfinished scratch not
    used for `keep_days`; then the least recently used ones until `keep_bytes` are met. StoreError when refused."""
    with guard(layout.root):
        before = measure_usage(layout).total
        with store_lock(layout.lock):
            dead = clear_dead(layout.tmp, dry_run=dry_run)
            sweep = _Sweep(layout, dry_run, before, living_uses(layout.tmp, dead))
            sweep.needless(dead)
            sweep.old(keep_days)
            sweep.least_used(keep_bytes)
        for path in (*dead, *sweep.trash):
            if not dry_run:
                remove_tree(path)
        if not dry_run:
            memo.prune()
    return GcReport(tuple(sweep.removed), before, sweep.total, len(sweep.spared), dry_run)


@dataclass
class _Sweep:
    """One collection, inside the store's lock. Things are renamed away here and removed after the lock is gone."""

    layout: Layout
    dry_run: bool
    total: int
    uses: set[str]
    removed: list[Removal] = field(default_factory=list)
    trash: list[Path] = field(default_factory=list)
    spared: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.records: dict[str, StepResult] = {}
        self.used: dict[str, float] = {}
        for path in self.layout.steps.glob("*.json"):
            with suppress(ValueError, FileNotFoundError):
                self.records[path.stem] = parse_record(read_json(path), path.stem)
                self.used[path.stem] = path.stat().st_mtime

    def needless(self, dead: Iterable[Path]) -> None:
        """What no later build can want."""
        for path in dead:
            self._note("temporary", path.name, tree_bytes(path), "left by a killed process")
        for path in sorted(self.layout.broken.glob("*")):
            self._take("broken", path.name, [path], "damaged")
        for path in sorted(self.layout.steps.glob("*.json")):
            if path.stem not in self.records:
                self._take("records", path.stem[:12], [path], "damaged record")
        named = {record.digest for record in self.records.values()} | self.uses
        for digest in sorted({path.name[:64] for path in self.layout.objects.glob("*/*")}):
            if HEX.match(digest) and digest not in named:
                self._take_object(digest, "no step names it")
        for folder in sorted(self.layout.scratch.glob("*/")):
            if folder.name in self.records:
                rest = [path for path in folder.iterdir() if not is_log(path)]
                self._take_scratch(folder, rest, "its step is finished")

    def old(self, keep_days: float | None) -> None:
        """Steps and unfinished scratch not used for this long."""
        if keep_days is None:
            return
        for used, key in self._by_age():
            if time.time() - used > keep_days * _DAY:
                self._take_step(key, f"not used for {(time.time() - used) / _DAY:.0f} days")

    def least_used(self, keep_bytes: int | None) -> None:
        """Least recently used first, until the store is small enough."""
        if keep_bytes is None:
            return
        for _, key in self._by_age():
            if self.total <= keep_bytes:
                return
            self._take_step(key, "least recently used")

    def _by_age(self) -> list[tuple[float, str]]:
        """(last use, key) of every step and unfinished scratch, oldest first."""
        ages = dict(self.used)
        for folder in self.layout.scratch.glob("*/"):
            if HEX.match(folder.name) and folder.name not in ages:
                ages[folder.name] = max([folder.stat().st_mtime, *(path.stat().st_mtime for path in folder.iterdir())])
        return sorted((used, key) for key, used in ages.items())

    def _take_step(self, key: str, why: str) -> None:
        record = self.records.get(key)
        if key in self.uses or (record is not None and record.digest in self.uses):
            self.spared.add(key)
            return
        scratch = self.layout.scratch_of(key)
        if scratch.is_dir() and not self._take_scratch(scratch, [scratch], why):
            return
        self.used.pop(key, None)
        if record is None:
            return
        del self.records[key]
        self._take("records", record.name(), [self.layout.step(key)], why)
        if all(other.digest != record.digest for other in self.records.values()):
            self._take_object(record.digest, why)

    def _take_object(self, digest: str, why: str) -> None:
        paths = [path for path in (self.layout.object(digest), self.layout.manifest(digest)) if path.exists()]
        self._take("objects", digest[:12], paths, why)

    def _take_scratch(self, folder: Path, paths: list[Path], why: str) -> bool:
        """False, and nothing taken, while its step is claimed. Lock files stay: without it waiters would be split."""
        if not paths:
            return True
        lock = open_lock(folder.with_suffix(".lock"), patience=0)
        if lock is None:
            self.spared.add(folder.name)
            return False
        try:
            self._take("scratch", folder.name[:12], paths, why)
        finally:
            lock.release()
        return True

    def _take(self, area: AreaName, name: str, paths: list[Path], why: str) -> None:
        self._note(area, name, sum(tree_bytes(path) if path.is_dir() else file_bytes(path) for path in paths), why)
        if not self.dry_run:
            for path in paths:
                self.trash.append(path.rename(self.layout.tmp / f"dead-{secrets.token_hex(8)}"))

    def _note(self, area: AreaName, name: str, size: int, why: str) -> None:
        self.removed.append(Removal(area, name, size, why))
        self.total -= size
