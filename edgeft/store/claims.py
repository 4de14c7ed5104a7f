"""Who may run a step: one process at a time, with a scratch folder that survives a kill."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeft.store.disk import full_disk_guard, guard, remove_tree
from edgeft.store.layout import Layout
from edgeft.store.session import open_lock


@dataclass(frozen=True)
class Claim:
    """The exclusive right to run a step. scratch: its folder, which survives a kill."""

    key: str
    scratch: Path


class Claims:
    """Locks on the scratch folders. The system lets a lock go when its process dies."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: dict[str, int] = {}

    @contextmanager
    def claim(self, key: str, on_wait: Callable[[str], None]) -> Iterator[Claim]:
        """See `Store.claim`."""
        scratch = self._layout.scratch_of(key)
        if self._held.get(key) == threading.get_ident():
            raise ValueError(f"step {key[:8]} is claimed already by this thread")
        lock = open_lock(scratch.with_suffix(".lock"), patience=0)
        if lock is None:
            on_wait(f"{_holder(scratch)} is running this step; waiting for it")
            lock = open_lock(scratch.with_suffix(".lock"), patience=-1)
        assert lock is not None
        self._held[key] = threading.get_ident()
        try:
            with guard(scratch):
                scratch.mkdir(exist_ok=True)
                scratch.with_suffix(".owner").write_text(str(os.getpid()), encoding="ascii")
            with full_disk_guard(scratch):
                yield Claim(key, scratch)
        finally:
            self._held.pop(key, None)
            lock.release()

    def finish(self, key: str) -> None:
        """See `Store.finish_scratch`."""
        folder = self._layout.scratch_of(key)
        if key in self._held:
            _keep_logs(folder)
            return
        lock = open_lock(folder.with_suffix(".lock"), patience=0)
        if lock is not None:
            try:
                _keep_logs(folder)
            finally:
                lock.release()


def is_log(path: Path) -> bool:
    """True for what `finish` keeps: a plain `*.log` or `log.txt`."""
    return path.is_file() and not path.is_symlink() and (path.suffix == ".log" or path.name == "log.txt")


def _holder(scratch: Path) -> str:
    """`another build (process 123)`, as far as is known."""
    try:
        pid = scratch.with_suffix(".owner").read_text(encoding="ascii")[:20]
    except (OSError, ValueError):
        pid = ""
    return f"another build (process {pid})" if pid.isdigit() else "another build"


def _keep_logs(folder: Path) -> None:
    with guard(folder):
        for path in folder.iterdir() if folder.is_dir() else ():
            if not is_log(path):
                remove_tree(path)
