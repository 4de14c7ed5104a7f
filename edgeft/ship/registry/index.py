"""A cache of what the bundles say, in SQLite on this machine. It is never the truth: thrown away, it is built anew.

It also remembers how far the log had come when this machine last read it. A log that is shorter now, or differs there,
was cut or exchanged whole, which the chain of hashes alone cannot tell.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeft.ship.registry.facts import FACTS_VERSION, BundleFacts
from edgeft.ship.registry.log import Log, digest
from edgeft.store.layout import default_root

SCHEMA = """
create table if not exists bundles (digest text primary key, version integer not null, facts text not null);
create table if not exists heads (
  only integer primary key check (only = 1), registry text not null, seq integer not null, hash text not null
);
"""
REMEMBER = """
insert into heads values (1, ?, ?, ?)
on conflict (only) do update set seq = excluded.seq, hash = excluded.hash where excluded.seq > heads.seq
"""
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Head:
    """Where a log ended. registry: SHA-256 of registry.json; hash: of entry `seq`."""

    registry: str
    seq: int
    hash: str

    def cut(self, registry: str, log: Log) -> str:
        """What is wrong where a log that was read later does not go on from here; empty else."""
        if self.registry != registry:
            return "this is another registry than the one that was here when this machine last looked"
        if self.seq > len(log.entries):
            return f"it has {len(log.entries)} entries that hold, and had {self.seq} when this machine last read it"
        if self.seq and digest(log.entries[self.seq - 1].line()) != self.hash:
            return f"entry {self.seq} is another one than this machine read before"
        return ""


def index_file(location: str) -> Path:
    """Where the index of a registry lies on this machine."""
    name = digest(location.encode("utf-8", "surrogatepass"))[:16]
    return default_root() / ".registries" / f"{name}.sqlite"


class Index:
    """One registry's cache. A file that cannot be used is replaced; where none can be written it is kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = _open(path)

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def facts(self, name: str, read: Callable[[str], BundleFacts]) -> BundleFacts:
        """What the bundle says, from the cache or by `read`, which fills it. A bundle never changes; its faults may,
        so what has problems is not kept."""
        query = "select facts from bundles where digest = ? and version = ?"
        for (text,) in self._ask(query, name, FACTS_VERSION):
            with suppress(ValidationError):
                return BundleFacts.model_validate_json(text)
        found = read(name)
        if not found.problems:
            self._ask("insert or replace into bundles values (?, ?, ?)", name, FACTS_VERSION, found.model_dump_json())
        return found

    def head(self) -> Head | None:
        """How far the log had come, to be asked before the log is read: another process may read and remember more
        in between."""
        for known, seq, last in self._ask("select registry, seq, hash from heads"):
            return Head(str(known), int(seq), str(last))
        return None

    def remember(self, registry: str, log: Log) -> None:
        """Keep how far it has come, never less than before."""
        last = digest(log.entries[-1].line()) if log.entries else ""
        self._ask(REMEMBER, registry, len(log.entries), last)

    def _ask(self, query: str, *values: object) -> list[Any]:
        """Rows; none where the file is damaged or busy: a cache that fails must not fail the command."""
        try:
            with self._database:
                return self._database.execute(query, values).fetchall()
        except sqlite3.Error:
            return []


def _open(path: Path) -> sqlite3.Connection:
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _prepared(path)
        except sqlite3.DatabaseError:
            with suppress(OSError):
                path.unlink()
        except OSError:
            break
    return _prepared(":memory:")


def _prepared(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=PATIENCE_SECONDS)
    try:
        database.executescript(SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database
