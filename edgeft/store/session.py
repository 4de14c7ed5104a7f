"""What belongs to one living process: its temporary folders, and the list of results it relies on.

A session is a folder `tmp/<pid>-<start>-<random>` beside a lock file of that name, held while the process lives. The
operating system lets the lock go when the process dies in any way, so whoever can take the lock may clear the folder.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import StoreError
from edgeft.store.disk import full_disk_guard, guard, refusal, remove_tree

if TYPE_CHECKING:
    from filelock import BaseFileLock

_USES = "uses.txt"


def open_lock(path: Path, *, patience: float) -> BaseFileLock | None:
    """An exclusive lock on `path` across processes, or None when it is held after `patience` seconds (-1: wait)."""
    from filelock import FileLock, Timeout

    # thread_local: a Store may be closed by another thread than the one that began its session.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=0.1 if patience < 0 else 0.005)
    except Timeout:
        return None
    except NotImplementedError as error:
        raise StoreError(
            "this file system has no file locks", where=str(path), hint="EDGEFT_STORE=/a/local/disk"
        ) from error
    except OSError as error:
        raise refusal(error, path) from error
    return lock


@contextmanager
def store_lock(path: Path) -> Iterator[None]:
    """The one short lock of a store: taken to publish, to note a use and to take away, never to hash or copy."""
    lock = open_lock(path, patience=300)
    if lock is None:
        raise StoreError(
            "another process has held the store for five minutes",
            where=str(path),
            hint="look for a stopped edgeft process",
        )
    try:
        yield
    finally:
        lock.release()


class Session:
    """Lazily begun, once per Store and process; a forked child begins its own."""

    def __init__(self, tmp: Path, lock: Path) -> None:
        self._tmp, self._store_lock = tmp, lock
        self._threads = threading.RLock()
        self._held: BaseFileLock | None = None
        self._folder: Path | None = None
        self._pid = 0
        self._used: set[str] = set()

    def folder(self) -> Path:
        """This process's own temporary folder."""
        with self._threads:
            if self._folder is None or self._pid != os.getpid():
                self._begin()
            assert self._folder is not None
            return self._folder

    def _begin(self) -> None:
        name = f"{os.getpid()}-{int(time.time())}-{secrets.token_hex(4)}"
        # Under the store's lock, or a cleaner could take the new lock file between its making and its locking.
        with store_lock(self._store_lock), guard(self._tmp):
            held = open_lock(self._tmp / f"{name}.lock", patience=0)
            (self._tmp / name).mkdir()
        self._held, self._folder, self._pid, self._used = held, self._tmp / name, os.getpid(), set()

    def use(self, *names: str) -> None:
        """Note keys and digests this process relies on, so that no gc takes them. Call inside the store's lock."""
        fresh = [name for name in names if name not in self._used]
        if fresh and self._folder is not None:
            with guard(self._folder), (self._folder / _USES).open("a", encoding="ascii") as stream:
                stream.write("".join(f"{name}\n" for name in fresh))
            self._used.update(fresh)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A new empty folder, removed on exit; a disk found full inside is said as such."""
        path = self.folder() / f"work-{secrets.token_hex(4)}"
        with guard(path):
            path.mkdir()
        try:
            with full_disk_guard(path):
                yield path
        finally:
            with guard(path):
                remove_tree(path)

    def close(self) -> None:
        """Remove what is left and let go; does nothing in a forked child."""
        with self._threads:
            if self._folder is None or self._pid != os.getpid():
                return
            with suppress(OSError):
                remove_tree(self._folder)
            with suppress(OSError):
                self._folder.with_name(self._folder.name + ".lock").unlink()
            if self._held is not None:
                self._held.release()
            self._held = self._folder = None


def living_uses(tmp: Path, dead: Collection[Path]) -> set[str]:
    """Keys and digests that living sessions rely on; dead: what `clear_dead` returned. Call inside the store's lock."""
    names: set[str] = set()
    for path in tmp.glob(f"*/{_USES}"):
        if path.parent in dead:
            continue
        with suppress(FileNotFoundError):
            names.update(path.read_text(encoding="ascii", errors="replace").split())
    return names


def clear_dead(tmp: Path, *, dry_run: bool = False) -> list[Path]:
    """Take away what dead processes left: renamed to `dead-...` for the caller to remove outside the store's lock."""
    taken = []
    living = set()
    for path in sorted(tmp.glob("*.lock")):
        lock = open_lock(path, patience=0)
        if lock is None:
            living.add(path.stem)
            continue
        if not dry_run:
            with suppress(OSError):
                path.unlink()
        lock.release()
    for path in sorted(tmp.iterdir()):
        if path.suffix == ".lock" or path.name in living:
            continue
        if dry_run:
            taken.append(path)
            continue
        dead = path if path.name.startswith("dead-") else tmp / f"dead-{secrets.token_hex(4)}"
        if dead != path:
            path.rename(dead)
        taken.append(dead)
    return taken
