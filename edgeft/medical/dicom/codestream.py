"""The size a compressed frame says of itself, read before a decoder allocates it."""

from __future__ import annotations

from struct import unpack

_J2K = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP  "
_FRAME_HEADERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""SOF0..SOF15 of ISO 10918-1 without DHT, JPG and DAC, and SOF55 of JPEG-LS (ISO 14495-1)."""
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_LOOK = 1 << 16


def codestream_sides(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS or JPEG 2000 codestream; None where it is another thing (RLE)."""
    if frame[:8] == _JP2:
        start = frame[:_LOOK].find(_J2K)
        return _j2k_sides(frame, start) if start >= 0 else (0, 0)
    if frame[:4] == _J2K:
        return _j2k_sides(frame, 0)
    if frame[:2] == b"\xff\xd8":
        return _jpeg_sides(frame)
    return None


def _j2k_sides(frame: bytes, start: int) -> tuple[int, int]:
    """Image and tile size marker, ISO 15444-1 A.5.1: sides of the reference grid less its offset."""
    raw = frame[start + 8 : start + 24]
    if len(raw) < 16:
        return 0, 0
    width, height, left, top = unpack(">4L", raw)
    return height - top, width - left


def _jpeg_sides(frame: bytes) -> tuple[int, int]:
    position = 2
    while position + 9 <= len(frame):
        if frame[position] != 0xFF:
            return 0, 0
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _ALONE:
            position += 2
        elif marker in _FRAME_HEADERS:
            rows, columns = unpack(">HH", frame[position + 5 : position + 9])
            return rows, columns
        else:
            position += 2 + unpack(">H", frame[position + 2 : position + 4])[0]
    return 0, 0
