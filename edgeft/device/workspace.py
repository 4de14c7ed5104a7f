"""Temporary folders of jobs on this machine, and what killed processes left of theirs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeft.errors import DeviceError

PREFIX = "edgeft-job-"
OWNED = re.compile(r"edgeft-job-(\d+)-(\d+)-")
"""Process id, then the number of the process-id namespace it counts in: containers may share a temporary folder."""


@contextmanager
def job_folder() -> Iterator[Path]:
    """A folder of one job, removed in any case; those of dead processes go first. DeviceError if it cannot be made."""
    sweep_dead()
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-{_namespace()}-"))
    except OSError as error:
        raise DeviceError(
            f"cannot make a job's folder: {error.strerror}",
            where=tempfile.gettempdir(),
            hint="set TMPDIR to a larger disk",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_dead() -> list[Path]:
    """Remove job folders whose process is gone; returns them. What cannot be removed is left."""
    import psutil

    gone = []
    with suppress(OSError):
        for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
            found = OWNED.match(path.name)
            if found is None or int(found[2]) != _namespace() or path.is_symlink():
                continue
            if int(found[1]) != os.getpid() and not psutil.pid_exists(int(found[1])):
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path)
    return gone


def _namespace() -> int:
    """The inode of this process's pid namespace; 0 where there is no such thing."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
