"""What a killed build left beside its output folder: the folder it was writing, or the old one it had put aside."""

from __future__ import annotations

import re
import shutil
from pathlib import Path


def draft_of(folder: Path, pid: int) -> Path:
    """Where process `pid` writes the new outcome of `folder`."""
    return folder.with_name(f".{folder.name}.{pid}")


def aside_of(folder: Path, pid: int) -> Path:
    """Where process `pid` puts the old outcome while the new one takes its place."""
    return folder.with_name(f".{folder.name}.old.{pid}")


def clear_leftovers(folder: Path) -> None:
    """Bring back an old outcome that lost its place and remove drafts, of processes that no longer live.

    folder: an outcome, which need not exist. What another process is writing at this moment stays. OSError where the
    disk refuses.
    """
    import psutil

    name = re.compile(rf"\.{re.escape(folder.name)}\.(old\.)?(\d{{1,10}})")
    try:
        beside = sorted(folder.parent.iterdir())
    except FileNotFoundError:
        return
    for path in beside:
        found = name.fullmatch(path.name)
        if found is None or psutil.pid_exists(int(found[2])):
            continue
        if found[1] and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path)
