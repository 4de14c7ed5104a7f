"""Temporary folders that a killed process (kill -9, a power cut) could not remove."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from pathlib import Path

from edgeft.store.disk import remove_tree, tree_bytes

NAME = re.compile(r"edgeft-[a-z]+-[a-z0-9_]{8}")
"""As tempfile names what edgeft asks it for."""
DAYS = 2.0
"""A process may use its folder for hours without changing the folder itself, whose time is what is seen."""


def temporary_leftovers(days: float = DAYS) -> dict[Path, int]:
    """Folder -> bytes of this user's folders of edgeft in the place for temporary files, unchanged for so many days."""
    if not hasattr(os, "getuid"):
        return {}
    found, before = {}, time.time() - days * 86400
    try:
        entries = list(os.scandir(tempfile.gettempdir()))
    except OSError:
        return {}
    for entry in entries:
        if NAME.fullmatch(entry.name) is None:
            continue
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and about.st_mtime < before:
            found[Path(entry.path)] = tree_bytes(Path(entry.path))
    return found


def remove_leftovers() -> int:
    """Remove them; returns the bytes freed."""
    found = temporary_leftovers()
    for folder in found:
        remove_tree(folder)
    return sum(found.values())
