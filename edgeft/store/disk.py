"""The store's contact with the file system: refusals become StoreErrors, writes are whole or absent."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError, StoreError

JSON_LIMIT = 64 << 20
"""Largest JSON record that is read, bytes."""

_ROOM = "make room with `edgeft gc --keep 20GB`, or put the store on a larger disk: EDGEFT_STORE=/larger/disk"
_ELSEWHERE = "choose a folder you can write to: EDGEFT_STORE=/another/folder"
_FULL = {errno.ENOSPC: "disk full", errno.EFBIG: "file too large for this disk or its limit"}
if hasattr(errno, "EDQUOT"):
    _FULL[errno.EDQUOT] = "disk quota exceeded"
_REFUSED = {errno.EROFS: "the file system is read-only", errno.EACCES: "no permission", errno.EPERM: "not permitted"}
# Libraries written in other languages report a full disk in their own exception types.
_FULL_TEXTS = ("No space left on device", "os error 28", "Disk quota exceeded")


def free_bytes(path: Path) -> int | None:
    """Bytes free on the disk that holds `path` (or its nearest existing parent); None when unknown."""
    for folder in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def human(size: float) -> str:
    """Bytes as people read them, decimal units: `31.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def refusal(error: OSError, path: Path) -> StoreError:
    """The StoreError for what the file system answered, with the free space where that is the matter."""
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    if error.errno in _FULL:
        free = free_bytes(named)
        room = "" if free is None else f", {human(free)} free"
        return StoreError(f"{_FULL[error.errno]}{room}", where=str(named), hint=_ROOM)
    if error.errno in _REFUSED:
        return StoreError(f"cannot be written or read: {_REFUSED[error.errno]}", where=str(named), hint=_ELSEWHERE)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return StoreError("is a file where a folder is needed", where=str(named), hint=_ELSEWHERE)
    return StoreError(f"cannot be written or read: {error.strerror or error}", where=str(named), hint=_ELSEWHERE)


@contextmanager
def guard(path: Path) -> Iterator[None]:
    """Every OSError of the store's own work inside becomes a StoreError that names its path."""
    try:
        yield
    except OSError as error:
        raise refusal(error, path) from error


@contextmanager
def full_disk_guard(path: Path) -> Iterator[None]:
    """Around other people's writes below `path`: only a full disk is translated, whatever its exception type."""
    try:
        yield
    except EdgeftError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise refusal(error, path) from error
        raise
    except Exception as error:
        if any(text in str(error) for text in _FULL_TEXTS):
            raise refusal(OSError(errno.ENOSPC, "disk full", str(path)), path) from error
        raise


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    # Windows flushes only handles opened for writing.
    handle = os.open(path, (os.O_RDWR if sys.platform == "win32" else os.O_RDONLY) | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Force a folder's names to the disk, where the system knows such a thing."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes, temporary: Path) -> None:
    """Replace `path` by `data` through a file in `temporary` (same disk): old or new content, never half of it."""
    draft = temporary / f"draft-{secrets.token_hex(8)}"
    try:
        with draft.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_json(path: Path, limit: int = JSON_LIMIT) -> Any:
    """Parsed content of a regular file of at most `limit` bytes; a link, a bomb or bad JSON is a ValueError."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as stream:  # noqa: PTH123 - from a handle that refused links
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if about.st_size > limit:
            raise ValueError(f"larger than {human(limit)}")
        data = stream.read(limit + 1)
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder's plain files and folders, nothing else of them but content; a link met on the way is an error."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        made = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            made.mkdir(parents=True, exist_ok=True)
            continue
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as reader, guard(made):  # noqa: PTH123 - from a handle that refused links
            made.parent.mkdir(parents=True, exist_ok=True)
            with made.open("xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)


def remove_tree(path: Path) -> None:
    """Remove a folder or file that may be read-only or already gone; a link is removed, never followed."""
    if path.is_symlink() or not path.is_dir():
        if sys.platform == "win32" and path.exists():
            path.chmod(0o600)
        path.unlink(missing_ok=True)
    elif sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=_make_writable)
    else:
        shutil.rmtree(path, onerror=_make_writable)


def _make_writable(again: Callable[..., Any], name: str, _: Any) -> None:
    """Second try of rmtree: Windows does not remove read-only files, POSIX not from read-only folders."""
    if again not in (os.unlink, os.rmdir):
        raise OSError(errno.EACCES, "cannot be removed", name)
    with suppress(FileNotFoundError):
        Path(name).parent.chmod(0o700)
        if sys.platform == "win32":
            Path(name).chmod(0o600)
        again(name)


def tree_bytes(path: Path) -> int:
    """Bytes of all files below, links not followed; what vanishes meanwhile counts nothing."""
    total = 0
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(path):
            with suppress(FileNotFoundError):
                inside = entry.is_dir(follow_symlinks=False)
                total += tree_bytes(Path(entry.path)) if inside else entry.stat(follow_symlinks=False).st_size
    return total


def file_bytes(path: Path) -> int:
    """Size of a file, links not followed; 0 when it is gone."""
    with suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0
