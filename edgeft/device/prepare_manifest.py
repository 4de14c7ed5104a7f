"""The list of a runtime folder's files with their hashes, and the check of a folder against it."""

from __future__ import annotations

import json
import stat
from functools import cache
from pathlib import Path
from typing import Any

from edgeft.canonical import digest_file, digest_json
from edgeft.errors import DeviceError

MANIFEST = "manifest.json"
LONGEST_MANIFEST = 1 << 25


def list_tree(root: Path) -> dict[str, dict[str, Any]]:
    """Path below root -> {sha256, bytes, executable} of a file, {link} of a symbolic link."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = {"link": str(path.readlink())}
        elif path.is_file():
            mode = path.stat()
            executable = bool(mode.st_mode & stat.S_IXUSR)
            found[name] = {"sha256": digest_file(path), "bytes": mode.st_size, "executable": executable}
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a runtime folder. DeviceError when it is not one."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > LONGEST_MANIFEST:
            raise ValueError("too long")
        data = json.loads(path.read_bytes())
        if not isinstance(data["files"], dict) or not isinstance(data["python"], str):
            raise TypeError("files or python are missing")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DeviceError(f"is no manifest of a runtime folder: {error}", where=str(path)) from error
    return dict(data)


def check_folder(folder: Path, hint: str = "") -> None:
    """DeviceError unless every listed file is there with its hash, and none besides; once per process and manifest."""
    status = (folder / MANIFEST).stat()
    _check(folder, (status.st_mtime_ns, status.st_ino), hint)


@cache
def _check(folder: Path, stamp: tuple[int, int], hint: str) -> None:
    manifest = read_manifest(folder)
    listed, found = manifest["files"], list_tree(folder / "root")
    if digest_json(listed) != manifest.get("digest"):
        raise DeviceError("the list of files is not the one that was written", where=str(folder / MANIFEST), hint=hint)
    wrong = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
    if wrong:
        raise DeviceError(
            f"{len(wrong)} files of the runtime folder are damaged, missing or foreign, such as {wrong[0]}",
            where=str(folder),
            hint=hint,
        )
