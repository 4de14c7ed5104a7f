"""What a medical file may ask for, and how a reader says no. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MiB, GiB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limits:
    """Caps on one file or series, checked before anything is decoded; sizes in bytes.

    file: size on disk. decoded: pixels of a file or series once decoded (slices x rows x columns x 4). side: rows or
    columns. memory: what the child process may map beyond its own start. seconds: for one file. inflated: a deflated
    file may grow to this, or by this factor where that is more (`inflate_ratio`). elements, depth: data elements of one
    DICOM file, levels of nested sequences. files: in one folder.
    """

    file: int = 2 * GiB
    decoded: int = 4 * GiB
    side: int = 1 << 15
    frames: int = 20_000
    memory: int = 2 * GiB
    seconds: float = 60.0
    inflated: int = 64 * MiB
    inflate_ratio: float = 50.0
    elements: int = 1_000_000
    depth: int = 16
    files: int = 20_000

    def to_dict(self) -> dict[str, Any]:
        """For the child process, as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stated: Mapping[str, Any]) -> Limits:
        """The other way; unknown names are a TypeError."""
        return cls(**stated)


class Refusal(Exception):
    """A file that is not read: why, and what to do. The text never holds a value of the header.

    file: place in the list of files that were asked for, None where it concerns all of them.
    """

    def __init__(self, what: str, hint: str = "", file: int | None = None) -> None:
        super().__init__(what)
        self.what, self.hint, self.file = what, hint, file


def check_pixels(rows: int, columns: int, frames: int, limits: Limits, bytes_each: float = 4) -> None:
    """Refusal unless the three are positive and their product, `bytes_each` a pixel, lies within the limits."""
    if min(rows, columns, frames) < 1:
        raise Refusal(f"states {frames} x {rows} x {columns} pixels: every size must be at least 1")
    if max(rows, columns) > limits.side or frames > limits.frames:
        what = f"states {frames:,} frames of {rows:,} x {columns:,} pixels"
        raise Refusal(f"{what}; the limit is {limits.frames:,} of {limits.side:,} x {limits.side:,}")
    total = frames * rows * columns * bytes_each
    if total > limits.decoded:
        what = f"states {frames:,} x {rows:,} x {columns:,} pixels, {total / GiB:.1f} GiB once decoded"
        raise Refusal(f"{what}; the limit is {limits.decoded / GiB:.1f} GiB", "cut the volume, or read fewer slices")
