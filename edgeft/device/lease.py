"""One process at a time on a machine: an operating-system lock, and beside it who holds it and since when.

The system lets a lock go when its process dies in any way, so what a dead process held is free at once and nothing has
to be judged stale. The lock files lie beside units.yaml: whoever shares that file shares the leases. Two names for one
host, or two logins on it, are one machine and one lease.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.device.units import units_path
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from edgeft.device.unit import Unit

LONGEST_COMMAND, LARGEST_NOTE = 200, 8192


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. since: UTC, `2026-11-21 12:03:44`. command: what was started there, shortened."""

    pid: int
    host: str
    since: str
    command: str

    def describe(self) -> str:
        """`process 123 on box since 2026-11-21 12:03:44 UTC (edgeft build x.yaml)`."""
        return f"process {self.pid} on {self.host} since {self.since} UTC ({self.command})"

    def lives(self) -> bool:
        """False when the process is known to be gone; what runs on another host cannot be known."""
        import psutil

        return self.host != socket.gethostname() or psutil.pid_exists(self.pid)


class Lease:
    """The right to use a unit, until `release`."""

    def __init__(self, lock: BaseFileLock, note: Path) -> None:
        self._lock, self._note = lock, note

    def release(self) -> None:
        """Let go. The lock's file stays: removing it would let two processes lock two files of one name."""
        with suppress(OSError):
            self._note.unlink(missing_ok=True)
        self._lock.release()


def take_lease(unit: Unit) -> Lease | None:
    """The lease of a unit, or None while another process has it. DeviceError where locks cannot be had."""
    from filelock import FileLock, Timeout

    path = _place(unit)
    # thread_local: a build may end in another thread than the one that took the lease.
    lock = FileLock(path.with_suffix(".lock"), timeout=0, mode=0o600, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        raise DeviceError(
            f"cannot lock {unit.name}: {getattr(error, 'strerror', None) or 'this file system has no file locks'}",
            where=str(path.parent),
            hint="EDGEFT_UNITS=/a/local/disk/units.yaml",
        ) from error
    lease = Lease(lock, path.with_suffix(".json"))
    try:
        _write_note(path.with_suffix(".json"))
    except OSError as error:
        lease.release()
        raise DeviceError(f"cannot be written: {error.strerror}", where=str(path.parent)) from error
    return lease


def read_holder(unit: Unit) -> Holder | None:
    """Who says to hold the unit; None when nobody does, or the note is no note of ours."""
    try:
        with _place(unit).with_suffix(".json").open("rb") as stream:
            data = json.loads(stream.read(LARGEST_NOTE))
        return Holder(int(data["pid"]), _plain(data["host"]), _plain(data["since"]), _plain(data["command"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place(unit: Unit) -> Path:
    """The lease's files without suffix, named after the machine itself. Port 22 and none are the same."""
    if unit.host is not None:
        where = f"ssh {unit.host.rpartition('@')[2].lower()} {unit.port or 22}"
    else:
        where = f"adb {unit.serial}"
    readable = re.sub(r"[^A-Za-z0-9]+", "-", where)[:60].strip("-")
    # No dot in the name: `with_suffix` would take it for one.
    return units_path().parent / "leases" / f"{readable}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def _write_note(path: Path) -> None:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    holder = Holder(os.getpid(), socket.gethostname(), now, _plain(command))
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(draft, "w", encoding="utf-8", opener=_private) as stream:
        json.dump(asdict(holder), stream)
    draft.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _plain(text: object) -> str:
    """One short line without control characters: it goes to a terminal, and the note may be another's."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return line if len(line) <= LONGEST_COMMAND else line[: LONGEST_COMMAND - 3] + "..."
