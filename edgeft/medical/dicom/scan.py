"""A walk over the elements of a DICOM data set, before a parser that recurses sees it. PS3.5 section 7."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO

from edgeft.medical.limits import Limits, Refusal

UNDEFINED = 0xFFFFFFFF
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Float, double float and integer pixel data."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_DAMAGED = "is damaged: copy or export it again"


@dataclass
class Found:
    """Where the pixel data lies. tag 0: there is none. kind: its VR, empty in implicit files. offset: of its value.
    length: of that, or of all fragments together."""

    tag: int = 0
    kind: str = ""
    offset: int = 0
    length: int = 0
    fragments: int = 0
    elements: int = 0
    depth: int = 0


@dataclass
class _Level:
    """One open sequence or item: the offset where it ends, None until its delimiter; implicit: how it is written."""

    end: int | None
    implicit: bool
    items: bool
    """True inside a sequence, where only items may follow."""


class _Walk:
    def __init__(self, stream: BinaryIO, size: int, implicit: bool, little: bool, limits: Limits) -> None:
        order = "<" if little else ">"
        self.stream, self.size, self.limits = stream, size, limits
        self.head, self.short = Struct(order + "HH4s"), Struct(order + "H")
        self.long = Struct(order + "L")
        self.levels = [_Level(size, implicit, False)]
        self.found = Found()

    def run(self, start: int) -> Found:
        position = start
        while position < self.size:
            position = self._close(position)
            if len(self.levels) == 1 and position >= self.size:
                break
            position = self._element(position)
        if any(level.end is None for level in self.levels):
            raise Refusal("ends inside a sequence: it is cut short", _DAMAGED)
        return self.found

    def _close(self, position: int) -> int:
        while len(self.levels) > 1:
            end = self.levels[-1].end
            if end is None or position < end:
                break
            if position > end:
                raise Refusal("has an element that reaches beyond its sequence", _DAMAGED)
            self.levels.pop()
        return position

    def _element(self, position: int) -> int:
        level = self.levels[-1]
        tag, kind, length, position = self._header(position, level.implicit)
        self.found.elements += 1
        if self.found.elements > self.limits.elements:
            raise Refusal(f"has more than {self.limits.elements:,} data elements")
        if tag in (_ITEM_END, _SEQUENCE_END):
            if len(self.levels) > 1 and level.end is None and level.items == (tag == _SEQUENCE_END):
                self.levels.pop()
            return position
        if level.items:
            if tag != _ITEM:
                raise Refusal("has a sequence with something else than items in it", _DAMAGED)
            return self._open(position, length, level.implicit, items=False)
        if tag in PIXELS and len(self.levels) == 1:
            self.found.kind = "" if level.implicit else kind.decode("ascii")
            return self._pixels(position, tag, length)
        if length == UNDEFINED or kind == b"SQ":
            # PS3.5 6.2.2: what is written as UN of undefined length is implicit inside.
            return self._open(position, length, level.implicit or kind == b"UN", items=True)
        return self._skip(position, length)

    def _header(self, position: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """(tag, VR, length, offset of the value); the VR of an implicit element comes from the dictionary."""
        self.stream.seek(position)
        raw = self.stream.read(8)
        if len(raw) < 8:
            raise Refusal("ends inside the header of an element: it is cut short", _DAMAGED)
        group, element, rest = self.head.unpack(raw)
        tag = group << 16 | element
        kind = rest[:2]
        if group == 0xFFFE:
            return tag, b"", self.long.unpack(rest)[0], position + 8
        if implicit or not (b"AA" <= kind <= b"ZZ"):
            return tag, _dictionary_kind(tag), self.long.unpack(rest)[0], position + 8
        if kind not in _LONG:
            return tag, kind, self.short.unpack(rest[2:])[0], position + 8
        wide = self.stream.read(4)
        if len(wide) < 4:
            raise Refusal("ends inside the header of an element: it is cut short", _DAMAGED)
        return tag, kind, self.long.unpack(wide)[0], position + 12

    def _open(self, position: int, length: int, implicit: bool, items: bool) -> int:
        end = None if length == UNDEFINED else position + length
        if end is not None and end > self.size:
            raise Refusal("has a sequence that reaches beyond the end of the file: it is cut short", _DAMAGED)
        self.levels.append(_Level(end, implicit, items))
        depth = len(self.levels) // 2
        self.found.depth = max(self.found.depth, depth)
        if depth > self.limits.depth:
            raise Refusal(f"has sequences nested more than {self.limits.depth} levels deep")
        return position

    def _skip(self, position: int, length: int) -> int:
        if position + length > self.size:
            raise Refusal("has an element that reaches beyond the end of the file: it is cut short", _DAMAGED)
        return position + length

    def _pixels(self, position: int, tag: int, length: int) -> int:
        self.found.tag, self.found.offset = tag, position
        if length != UNDEFINED:
            # Pixel data that is shorter than said is told apart later, where the expected length is known.
            self.found.length = min(length, self.size - position)
            return min(position + length, self.size)
        while True:
            item, _, size, position = self._header(position, implicit=True)
            if item == _SEQUENCE_END:
                return position
            if item != _ITEM or size == UNDEFINED:
                raise Refusal("has compressed pixel data that is not made of fragments", _DAMAGED)
            position = self._skip(position, size)
            self.found.fragments += 1
            self.found.length += size
            if self.found.fragments > self.limits.elements:
                raise Refusal(f"has more than {self.limits.elements:,} fragments of pixel data")


def scan(stream: BinaryIO, start: int, size: int, *, implicit: bool, little: bool, limits: Limits) -> Found:
    """Walk from `start` to `size` without recursion; Refusal for what is cut short, nested too deeply or too many."""
    return _Walk(stream, size, implicit, little, limits).run(start)


def _dictionary_kind(tag: int) -> bytes:
    from pydicom.datadict import DicomDictionary

    entry = DicomDictionary.get(tag)
    return b"SQ" if entry is not None and entry[0] == "SQ" else b"UN"
