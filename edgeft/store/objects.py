"""Objects: folders of read-only files named by the digest of their content, each with a list of its files."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeft.canonical import canonical_json, digest_file, walk_files
from edgeft.errors import StoreError
from edgeft.store.disk import sync_file, sync_folder

MAX_FILES = 100_000
# Sealed files carry one old, fixed time: a later write gives them another, however soon after sealing it comes.
SEALED_NS = 1_577_836_800 * 10**9
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


@dataclass(frozen=True)
class Manifest:
    """An object's files: (posix name, size in bytes, SHA-256), in the order of `canonical.digest_tree`."""

    files: tuple[tuple[str, int, str], ...]

    @property
    def data(self) -> bytes:
        """Its file's content: exactly the bytes whose SHA-256 is the object's digest."""
        return canonical_json([list(item) for item in self.files])

    @property
    def digest(self) -> str:
        """The object's digest, equal to `canonical.digest_tree` of the folder."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def bytes(self) -> int:
        """Sum of the sizes."""
        return sum(size for _, size, _ in self.files)


def read_manifest(path: Path, digest: str) -> Manifest | None:
    """The list beside an object, None when it is missing or not the one of this digest."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).hexdigest() != digest:
        return None
    return Manifest(tuple((str(name), int(size), str(sha)) for name, size, sha in json.loads(data)))


def check_folder(folder: Path, label: str = "") -> None:
    """Refuse what an object may not hold: links, sockets, pipes, devices, undecodable names, far too many files."""
    label = label or str(folder)
    if folder.is_symlink() or not folder.is_dir():
        raise StoreError("is not a folder", where=label)
    for count, entry in enumerate(_entries(folder)):
        name = Path(entry.path).relative_to(folder).as_posix()
        mode = entry.stat(follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = _KINDS.get(stat.S_IFMT(mode), "neither file nor folder")
            raise StoreError(f"{name!a} is {kind}: only plain files are kept", where=label)
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise StoreError(f"the file name {name!a} is not plain text", where=label)
        if count >= MAX_FILES:
            raise StoreError(f"holds more than {MAX_FILES} files", where=label)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, links not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def seal(folder: Path) -> Manifest:
    """Make a checked folder fit to be an object: hashed, forced to disk, read-only, fixed times, no empty folders."""
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
        else:
            path.chmod(0o755)
    files = []
    for name, found in walk_files(folder):
        path = _unshared(found)
        path.chmod(0o644)
        sync_file(path)
        os.utime(path, ns=(SEALED_NS, SEALED_NS))
        path.chmod(0o444)
        files.append((name, path.stat().st_size, digest_file(path)))
    for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync_folder(path)
    return Manifest(tuple(files))


def _unshared(path: Path) -> Path:
    """Replace a file that has a second name elsewhere (a hard link into a cache) by a copy: sealing changes modes."""
    if path.stat().st_nlink > 1:
        copy = path.with_name(f"copy-{secrets.token_hex(8)}")
        shutil.copyfile(path, copy)
        copy.replace(path)
    return path


def first_difference(
    folder: Path, digest: str, manifest: Manifest | None, file_digest: Callable[[Path], str]
) -> tuple[str, str]:
    """(file, what is wrong with it) of the first file that is not as stored; two empty texts when all are."""
    if folder.is_symlink() or not folder.is_dir():
        return ".", "the object's folder is gone"
    if manifest is None:
        found = Manifest(tuple((name, path.stat().st_size, file_digest(path)) for name, path in walk_files(folder)))
        return (
            ("", "")
            if found.digest == digest
            else (".", "the content is not what was stored, and its file list is lost")
        )
    present = {Path(entry.path).relative_to(folder).as_posix(): entry for entry in _entries(folder)}
    for name, size, sha in manifest.files:
        entry = present.pop(name, None)
        if entry is None:
            return name, "the file is missing"
        about = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(about.st_mode):
            return name, "it is no longer a plain file"
        if about.st_size != size:
            return name, f"it has {about.st_size} bytes instead of {size}"
        if file_digest(Path(entry.path)) != sha:
            return name, "its content changed"
    for name, entry in sorted(present.items()):
        if not entry.is_dir(follow_symlinks=False):
            return name, "it does not belong there"
    return "", ""
