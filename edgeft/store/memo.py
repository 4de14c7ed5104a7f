"""File hashes remembered by what the file system says of a file: path, size, times and inode."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from edgeft.canonical import digest_file
from edgeft.errors import StoreError
from edgeft.store.disk import guard

RACY_NS = 2_000_000_000
"""A file younger than this could change again within one tick of its file system's clock; its hash is not kept."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS hash (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, "
    "inode TEXT, digest TEXT) WITHOUT ROWID"
)
_Mark = tuple[int, int, int, str]


def _mark(about: os.stat_result) -> _Mark:
    """What tells a changed file. ctime catches an edit whose mtime was put back; st_ino may exceed 63 bits."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, str(about.st_ino)


class FileMemo:
    """SQLite in WAL mode, shared by processes. Only a cache: if it fails, files are hashed again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self._off = False

    def digest(self, path: Path) -> str:
        """SHA-256 of a file's bytes. StoreError when it cannot be read or changes while it is read."""
        with guard(path):
            real = os.path.realpath(path)
            for _ in range(3):
                mark, started = _mark(Path(real).stat()), time.time_ns()
                if known := self._known(real, mark):
                    return known
                digest = digest_file(Path(real))
                if _mark(Path(real).stat()) == mark:
                    if started - mark[1] > RACY_NS:
                        self._keep([(real, mark, digest)])
                    return digest
        raise StoreError("changes while it is read", where=str(path), hint="wait until whatever writes it has finished")

    def learn(self, files: Iterable[tuple[Path, str]]) -> None:
        """Remember digests of sealed files, whose fixed mtime makes them safe from the racy window."""
        rows = []
        for path, digest in files:
            real = os.path.realpath(path)
            rows.append((real, _mark(Path(real).stat()), digest))
        self._keep(rows)

    def prune(self) -> int:
        """Forget files that are gone; how many."""
        with self._lock, suppress(sqlite3.Error, OSError):
            connection = self._open()
            if connection is not None:
                paths = [row[0] for row in connection.execute("SELECT path FROM hash")]
                gone = [(path,) for path in paths if not os.path.exists(path)]  # noqa: PTH110 - bytes path
                with connection:
                    connection.executemany("DELETE FROM hash WHERE path = ?", gone)
                return len(gone)
        return 0

    def close(self) -> None:
        """Close the database if this process opened it."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection | None:
        if self._off:
            return None
        # A connection must not cross a fork: the child opens its own and leaves the parent's alone.
        if self._connection is None or self._owner != os.getpid():
            connection = sqlite3.connect(self._path, timeout=10, check_same_thread=False, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_TABLE)
            self._connection, self._owner = connection, os.getpid()
        return self._connection

    def _known(self, real: str, mark: _Mark) -> str | None:
        with self._lock:
            try:
                connection = self._open()
                if connection is None:
                    return None
                query = "SELECT digest FROM hash WHERE path=? AND size=? AND mtime=? AND ctime=? AND inode=?"
                row = connection.execute(query, (os.fsencode(real), *mark)).fetchone()
                return str(row[0]) if row else None
            except sqlite3.Error as error:
                self._fail(error)
                return None

    def _keep(self, rows: list[tuple[str, _Mark, str]]) -> None:
        with self._lock:
            try:
                connection = self._open()
                if connection is None or not rows:
                    return
                values = [(os.fsencode(real), *mark, digest) for real, mark, digest in rows]
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT OR REPLACE INTO hash VALUES (?,?,?,?,?,?)", values)
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._fail(error)

    def _fail(self, error: sqlite3.Error) -> None:
        """Go on without memory; a damaged file is removed so that the next process starts a clean one."""
        with suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
        # A lock held by another process passes; anything else will not.
        self._connection, self._off = None, "locked" not in str(error)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink()
