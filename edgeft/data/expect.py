"""`data.expect`: what the user says of the data, held against every row before anything is divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeft.data.rows import SHOWN, Rows, classes_of
from edgeft.errors import StepError


class Expected(Protocol):
    """The recipe's `data.expect`; None or empty: not said."""

    @property
    def shape(self) -> tuple[int | None, int | None] | None: ...
    @property
    def range(self) -> tuple[float, float] | None: ...
    @property
    def spacing(self) -> tuple[float, float] | None: ...
    @property
    def labels(self) -> tuple[str, ...] | None: ...
    @property
    def prevalence(self) -> dict[str, tuple[float, float]]: ...


@dataclass(frozen=True)
class Seen:
    """What was found of one image. spacing: mm of (rows, columns), None where the file does not say."""

    shape: tuple[int, int]
    low: float
    high: float
    spacing: tuple[float, float] | None


def check_expected(rows: Rows, labels: Sequence[str], expected: Expected) -> None:
    """StepError at the first kind of thing that is not as expected, with its first row and how many there are."""
    _check_labels(rows, labels, expected)
    if not (expected.shape or expected.range or expected.spacing):
        return
    if rows.files is None:
        raise StepError("rows have no images", where="data.expect", hint="shape, range and spacing are of images")
    faults: dict[str, list[str]] = {}
    for name, file in zip(rows.ids, rows.files, strict=True):
        for kind, fault in _faults(look(Path(file), name), expected):
            faults.setdefault(kind, []).append(f"{name}: {fault}")
    for kind, found in faults.items():
        more = f" ({len(found)} such images of {len(rows)})"
        raise StepError(f"not as data.expect.{kind} says: {found[0]}{more}", where=rows.where, hint=_HINTS[kind])


_HINTS = {
    "shape": "leave such images out, or widen the expectation; a null takes any size",
    "range": "another unit or another slope is the usual reason; leave such images out, or widen the expectation",
    "spacing": "leave such images out, or widen the expectation; preprocess.spacing makes all alike",
}


def _faults(seen: Seen, expected: Expected) -> Iterator[tuple[str, str]]:
    if expected.shape and any(want not in (None, have) for want, have in zip(expected.shape, seen.shape, strict=True)):
        yield "shape", f"{seen.shape[0]} x {seen.shape[1]} pixels"
    if expected.range and not expected.range[0] <= seen.low <= seen.high <= expected.range[1]:
        yield "range", f"values from {seen.low:g} to {seen.high:g}"
    if expected.spacing:
        least, most = expected.spacing
        if seen.spacing is None:
            yield "spacing", "the file does not say"
        elif not least <= min(seen.spacing) <= max(seen.spacing) <= most:
            yield "spacing", f"{seen.spacing[0]:.4g} x {seen.spacing[1]:.4g} mm"


def look(file: Path, name: str) -> Seen:
    """Size, range and spacing of an encoded image or a decoded slice. A value that is no number is in no range."""
    import numpy as np

    from edgeft.medical import reference

    raw = file.read_bytes()
    spacing: tuple[float, float] | None = None
    values: Any
    if raw.startswith(reference.MAGIC):
        volume, affine, _ = reference.unpack(raw)
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        values, spacing = volume[0], (float(lengths[1]), float(lengths[2]))
    else:
        values = _decoded(file, name)
    return Seen((values.shape[0], values.shape[1]), float(values.min()), float(values.max()), spacing)


def _decoded(file: Path, name: str) -> Any:
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB") if upright.mode in ("P", "1") else upright)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise StepError(f"cannot be decoded: {str(error)[:200]}", where=name) from error


def _check_labels(rows: Rows, labels: Sequence[str], expected: Expected) -> None:
    counts = Counter(label for place in range(len(rows)) for label in set(classes_of(rows, place, labels)))
    if expected.labels is not None:
        for label in (*expected.labels, *counts):
            if label not in counts or label not in expected.labels:
                held = f"{counts[label]} rows have it" if counts[label] else "no row has it"
                what = f"not as data.expect.labels says: '{label}', {held}"
                raise StepError(what, where=rows.where, hint=f"the rows have: {', '.join(sorted(counts)[: SHOWN * 2])}")
    for label, (least, most) in expected.prevalence.items():
        share = counts[label] / len(rows)
        if not least <= share <= most:
            what = (
                f"not as data.expect.prevalence says: {counts[label]} of {len(rows)} rows ({share:.1%}) are '{label}'"
            )
            hint = f"{least:.1%} to {most:.1%} was expected: another population, or a column read wrongly?"
            raise StepError(what, where=rows.where, hint=hint)
