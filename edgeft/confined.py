"""Fences around a child process that parses what strangers wrote. Standard library only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FORBIDDEN = (
    *("socket.", "subprocess.", "urllib.", "ctypes.dlopen", "os.system", "os.exec", "os.fork", "os.posix_spawn"),
    *("os.spawn", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil."),
    *("os.mkdir", "os.chmod", "os.chown", "os.chflags", "os.utime", "os.setxattr", "os.removexattr", "os.kill"),
)
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
"""What of os.open's flags changes a file: one opened for reading alone may still be made, or emptied."""


def set_limits(memory: int, file_size: int) -> list[str]:
    """Cap address space at what is mapped now plus `memory` bytes, and written files at `file_size`.

    Returns what this system does not limit: ["memory", "file size"] on Windows, ["memory"] on macOS, [] on Linux. The
    parent's timeout and the checks before decoding remain there.
    """
    try:
        import resource
    except ImportError:
        return ["memory", "file size"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    try:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # macOS does not enforce RLIMIT_AS
        return ["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory))
    return []


def fence(may_write: Callable[[str], bool]) -> None:
    """Forbid processes, sockets and writing but where `may_write` says so. An audit hook cannot be removed again."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args[0], args[1] or "", args[2] or 0
            writes = any(letter in str(mode) for letter in "wax+") or flags & _CHANGES
            if writes and not may_write(str(path)):
                raise PermissionError(f"a parser may not write {path}")
        elif event.startswith(_FORBIDDEN):
            raise PermissionError(f"a parser may not do {event}")

    sys.addaudithook(hook)
