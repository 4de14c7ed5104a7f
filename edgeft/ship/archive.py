"""Bundles as one file: packed the same way each time, unpacked without trusting a byte of them.

Nothing is believed of an archive but what comes out while it is read: sizes are counted, not looked up. What an archive
may hold is what a bundle may: plain files and folders with names that mean the same everywhere.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, BinaryIO, cast

from edgeft.canonical import walk_files
from edgeft.errors import EdgeftError, RecipeError
from edgeft.ship.verify import CHUNK, MANIFEST, MOST_FILES, SIGNATURE, Refused, check_names, shown

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can state: that of every member."""
END, END_BYTES, LARGEST_COMMENT = b"PK\x05\x06", 22, 65_535
END64, LOCATOR64, END64_BYTES, LOCATOR64_BYTES = b"PK\x06\x06", b"PK\x06\x07", 56, 20
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, RecursionError,
          NotImplementedError, struct.error, gzip.BadGzipFile)  # fmt: skip
"""What Python's readers raise at archives that are none."""


@dataclass(frozen=True)
class Limits:
    """Of what an archive may unpack to. ratio counts from `free` bytes on: little files of zeros are no bomb."""

    bytes: int = 16 << 30
    ratio: int = 200
    free: int = 64 << 20
    files: int = 2 * MOST_FILES
    directory: int = 8 << 20
    """Bytes of a zip file's list of members, which Python's reader takes into memory whole."""
    headers: int = 64 << 20
    """Bytes of all headers of a tar file, likewise."""


LIMITS = Limits()


class _Counter:
    """How much came out, against the limits."""

    def __init__(self, limits: Limits, packed: int) -> None:
        self._limits, self._most = limits, max(limits.free, packed * limits.ratio)
        self.bytes, self._names = 0, 0

    def add_name(self, name: str) -> None:
        self._names += 1
        if self._names > self._limits.files:
            raise Refused("archive", f"it holds more than {self._limits.files} files")

    def add_bytes(self, count: int) -> None:
        self.bytes += count
        if self.bytes > self._limits.bytes:
            raise Refused("archive", f"it unpacks to more than {self._limits.bytes >> 20} MiB")
        if self.bytes > self._most:
            raise Refused("archive", f"it unpacks to more than {self._limits.ratio} times its size, as bombs do")


class _Forward:
    """A tar file's stream that goes forward only, skips nothing, and bounds what lies between the files' contents:
    Python's reader takes headers into memory whole, and believes the sizes in them."""

    def __init__(self, stream: IO[bytes], counter: _Counter, limits: Limits) -> None:
        self._stream, self._counter, self._limits = stream, counter, limits
        self._total = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise Refused("archive", f"it has a header of more than {CHUNK >> 20} MiB")
        content = self._stream.read(size)
        self._total += len(content)
        if self._total - self._counter.bytes > self._limits.headers:
            raise Refused("archive", f"its headers take more than {self._limits.headers >> 20} MiB")
        return content

    def seek(self, place: int, whence: int = 0) -> int:
        if whence or abs(place - self._stream.tell()) > tarfile.BLOCKSIZE:
            raise Refused("archive", "it has a member that lies elsewhere")
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """A bundle's folder: the one that is named, or what an archive holds, in a folder that nobody else can write to and
    that goes afterwards. RecipeError for a file that is no archive of a bundle."""
    if not place.is_file():
        yield place
        return
    with TemporaryDirectory(prefix="edgeft-archive-") as private:
        try:
            folder = unpack(place, Path(private) / "unpacked")
        except Refused as refusal:
            hint = "`edgeft pack` makes one; a folder is taken too"
            raise RecipeError(f"is no bundle's archive: {refusal}", where=str(place), hint=hint) from refusal
        try:
            yield folder
        except EdgeftError as error:  # the folder is gone by the time that anyone reads its name
            error.what, error.where = (text.replace(str(folder), str(place)) for text in (error.what, error.where))
            raise


def is_archive(path: Path) -> bool:
    """Whether a file's name is an archive's, not a model's."""
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def unpack(archive: Path, folder: Path, limits: Limits = LIMITS) -> Path:
    """Unpack a .zip, .tar or .tar.gz into the fresh `folder`; returns the bundle's root in it.

    Refused for what no bundle holds: links, devices, names that lead elsewhere or clash, no manifest, too much.
    """
    with _reading(archive) as stream:
        head, packed = stream.read(tarfile.BLOCKSIZE), stream.seek(0, 2)
        stream.seek(0)
        counter = _Counter(limits, packed)
        if head.startswith(b"PK"):
            members = _zip_members(stream, counter, limits)
        elif head.startswith(b"\x1f\x8b"):
            members = _tar_members(cast("IO[bytes]", gzip.GzipFile(fileobj=stream)), counter, limits)
        elif head[257:262] == b"ustar":
            members = _tar_members(stream, counter, limits)
        else:
            raise Refused("archive", "it is no .zip, .tar or .tar.gz file")
        names: list[str] = []
        for name, content in members:
            names.append(name)
            check_names([name], "archive")  # before it is written
            _write(folder, name, content, counter)
    check_names(names, "archive")
    return _root(folder, names)


@contextmanager
def _reading(archive: Path) -> Iterator[BinaryIO]:
    try:
        with archive.open("rb") as stream:
            yield stream
    except BROKEN as error:
        raise Refused("archive", f"it is broken: {shown(error)}") from error
    except OSError as error:
        raise EdgeftError(f"cannot be read or unpacked: {error.strerror or error}", where=str(archive)) from error


def _zip_members(stream: BinaryIO, counter: _Counter, limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    _check_directory(stream, limits)
    with zipfile.ZipFile(stream) as opened:
        for info in opened.infolist():
            counter.add_name(info.orig_filename)
            name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
            if name.endswith("/"):
                continue
            if kind not in (0, stat.S_IFREG):
                raise Refused("archive", f"{shown(name)} is {_kind(kind)}")
            if info.flag_bits & 1:
                raise Refused("archive", f"{shown(name)} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused("archive", f"{shown(name)} is packed by a method that bundles do not use")
            with opened.open(info) as content:
                yield name, content


def _check_directory(stream: BinaryIO, limits: Limits) -> None:
    """Refused where the list of members, as the file's end states it, is larger than a bundle's can be."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - END_BYTES - LARGEST_COMMENT - LOCATOR64_BYTES))
    tail = stream.read()
    at = tail.rfind(END)
    if at < 0 or at + END_BYTES > len(tail):
        raise Refused("archive", "it is broken: the list of its members is missing")
    stated = struct.unpack_from("<I", tail, at + 12)[0]
    if at >= LOCATOR64_BYTES and tail[at - LOCATOR64_BYTES :].startswith(LOCATOR64):
        # Some of Python's readers look where the locator says, others right before it: both must be one place.
        place = size - len(tail) + at - LOCATOR64_BYTES - END64_BYTES
        stream.seek(max(0, place))
        record = stream.read(END64_BYTES)
        if not record.startswith(END64) or struct.unpack_from("<Q", tail, at - LOCATOR64_BYTES + 8)[0] != place:
            raise Refused("archive", "it is broken: the list of its members is missing")
        stated = struct.unpack_from("<Q", record, 40)[0]
    if stated > limits.directory:
        raise Refused("archive", f"the list of its members is larger than {limits.directory >> 20} MiB")
    stream.seek(0)


def _tar_members(stream: IO[bytes], counter: _Counter, limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    forward = cast("IO[bytes]", _Forward(stream, counter, limits))
    with tarfile.open(fileobj=forward, mode="r:") as opened:
        for info in opened:
            counter.add_name(info.name)
            name = info.name.removeprefix("./")
            if info.isdir():
                continue
            content = opened.extractfile(info) if info.isreg() and not info.issparse() else None
            if content is None:
                raise Refused("archive", f"{shown(name)} is {_tar_kind(info)}")
            yield name, content


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link" if info.issym() else "a hard link"
    return "a pipe or device" if info.isdev() else "no plain file"


def _kind(mode: int) -> str:
    return {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder that is named like a file"}.get(mode, "a pipe or device")


def _write(folder: Path, name: str, content: IO[bytes], counter: _Counter) -> None:
    place = folder / name
    if place.exists():
        raise Refused("archive", f"{shown(name)} is in it twice")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise Refused("archive", f"{shown(name)} lies in a file") from error
    with place.open("xb") as out:
        while chunk := content.read(CHUNK):
            counter.add_bytes(len(chunk))
            out.write(chunk)


def _root(folder: Path, names: list[str]) -> Path:
    """Where the manifest is: at the top, or in the one folder there."""
    if MANIFEST in names:
        return folder
    tops = {name.partition("/")[0] for name in names}
    top = next(iter(tops), "")
    if len(tops) != 1 or f"{top}/{MANIFEST}" not in names:
        raise Refused("archive", f"no {MANIFEST} at its top, nor in the only folder there")
    return folder / top


def pack(folder: Path, archive: Path) -> None:
    """Write the bundle as a .zip, the same bytes each time: sorted names, manifest and signature first, no times."""
    if archive.exists():
        raise RecipeError("is there already", where=str(archive), hint="remove it, or name another")
    first, fresh = (MANIFEST, SIGNATURE), archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(fresh, "w") as packed:
            for name, path in sorted(walk_files(folder), key=lambda item: (item[0] not in first, item[0])):
                info = zipfile.ZipInfo(name, EPOCH)
                info.external_attr, info.compress_type, info.create_system = 0o100644 << 16, zipfile.ZIP_DEFLATED, 3
                info.file_size = path.stat().st_size  # over 4 GiB the member needs other headers, from the start
                with path.open("rb") as stream, packed.open(info, "w") as out:
                    shutil.copyfileobj(stream, out, CHUNK)
        fresh.replace(archive)
    except OSError as error:
        raise EdgeftError(f"cannot be written: {error.strerror}", where=str(archive)) from error
    finally:
        fresh.unlink(missing_ok=True)
