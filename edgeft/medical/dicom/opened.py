"""A DICOM file opened: prefix, transfer syntax, deflate undone within bounds, structure walked, header parsed."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

from edgeft.medical.dicom.scan import Found, scan
from edgeft.medical.limits import Limits, Refusal

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_JPIP_DEFLATED = "1.2.840.10008.1.2.4.95"
_META_LIMIT, _CHUNK = 1 << 20, 1 << 20
_META_LONG = (b"OB", b"OW", b"UN", b"UT", b"SQ")


@dataclass
class Opened:
    """stream: the file as pydicom may read it. header: a pydicom Dataset without the pixel data."""

    stream: BinaryIO
    syntax: str
    found: Found
    header: Any


@contextmanager
def open_dicom(path: Path, limits: Limits) -> Iterator[Opened]:
    """Open and check one file. Refusal where it is no DICOM file or asks for too much."""
    size = path.stat().st_size
    if size > limits.file:
        raise Refusal(f"is {size / 1e9:.1f} GB; the limit is {limits.file / 1e9:.1f} GB")
    with path.open("rb") as file:
        stream: BinaryIO = file
        start, syntax = read_meta(stream)
        if syntax == _JPIP_DEFLATED:
            raise Refusal("keeps its pixels on a server (JPIP): they are not in the file")
        if syntax == DEFLATED:
            stream, start, size = _inflate(stream, start, size, limits)
            syntax = EXPLICIT
        implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
        found = scan(stream, start, size, implicit=implicit, little=little, limits=limits)
        yield Opened(stream, syntax, found, _parse(stream))


def is_dicom(path: Path) -> bool:
    """True where the prefix of PS3.10 is there."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_meta(stream: BinaryIO) -> tuple[int, str]:
    """(offset of the data set, transfer syntax UID) from the file meta information, which is always explicit."""
    if stream.read(132)[128:] != b"DICM":
        raise Refusal("is no DICOM file: it lacks the prefix DICM", "files without it must be written again as PS3.10")
    syntax, position = "", 132
    while len(head := stream.read(8)) == 8 and head[:2] == b"\x02\x00":
        length = unpack("<H", head[6:])[0]
        if head[4:6] in _META_LONG:
            length = unpack("<L", stream.read(4).ljust(4, b"\0"))[0]
        if length > _META_LIMIT or position > _META_LIMIT:
            raise Refusal("has file meta information of more than 1 MiB")
        value = stream.read(length)
        if len(value) < length:
            raise Refusal("ends inside its file meta information: it is cut short")
        if head[2:4] == b"\x10\x00":
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace")
        position = stream.tell()
    if not syntax:
        raise Refusal("does not state its transfer syntax", "export it again as a PS3.10 file")
    return position, syntax


def _inflate(stream: BinaryIO, start: int, size: int, limits: Limits) -> tuple[BinaryIO, int, int]:
    """The same file, explicit little endian in memory; never more than the limit is unpacked."""
    allowed = int(max(limits.inflated, limits.inflate_ratio * (size - start)))
    allowed = min(allowed, limits.decoded)
    stream.seek(start)
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    parts = [_prefix(EXPLICIT)]
    total = 0
    try:
        while not machine.eof and (chunk := machine.unconsumed_tail or stream.read(_CHUNK)):
            parts.append(machine.decompress(chunk, _CHUNK))
            total += len(parts[-1])
            if total > allowed:
                what = f"unpacks to more than {allowed >> 20:,} MiB from {size - start:,} bytes"
                raise Refusal(f"{what}: it may be a deflate bomb", "write it again uncompressed if you trust it")
    except zlib.error:
        raise Refusal("is deflated, and damaged", "copy or export it again") from None
    if not machine.eof:
        raise Refusal("is deflated, and cut short", "copy or export it again")
    whole = io.BytesIO(b"".join(parts))
    return whole, len(parts[0]), len(parts[0]) + total


def _prefix(syntax: str) -> bytes:
    """Preamble and the one element of the meta information that readers need."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid


def _parse(stream: BinaryIO) -> Any:
    import pydicom

    stream.seek(0)
    return pydicom.dcmread(stream, stop_before_pixels=True)
