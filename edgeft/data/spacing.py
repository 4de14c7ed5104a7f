"""The size of a pixel or voxel in mm, as the column `spacing` of a source says it: `0.7 0.7`, `3 0.7 0.7`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from edgeft.errors import RecipeError, StepError

COLUMN = "spacing"
MOST_MM = 1000.0


def read_spacing(text: str) -> tuple[float, ...]:
    """(rows, columns), or (slices, rows, columns), in mm. ValueError, saying what is wrong, for anything else."""
    try:
        found = tuple(float(part) for part in text.split())
    except ValueError:
        raise ValueError(f"'{text[:40]}' is no spacing") from None
    if len(found) not in (2, 3):
        raise ValueError(f"a spacing of {len(found)} numbers: two are expected (rows, columns), or three with slices")
    if not all(isfinite(step) and 0 < step <= MOST_MM for step in found):
        raise ValueError(f"a spacing of '{text[:40]}' mm: each must be above 0 and at most {MOST_MM:g}")
    return found


def check_spacing(values: Sequence[str | None], ids: Sequence[str], where: str) -> list[str]:
    """The column as it is kept. StepError, with the first case's name, where one has none or a wrong one."""
    for name, value in zip(ids, values, strict=True):
        try:
            read_spacing(value or "")
        except ValueError as error:
            what = str(error) if value else "the case has no spacing, others have one"
            hint = f"column {COLUMN}: mm between the centres of rows and of columns, such as 0.7 0.7"
            raise StepError(f"{name}: {what}", where=where, hint=hint) from error
    return [value or "" for value in values]


def state_spacing(spacing: Sequence[float], where: str) -> str:
    """Numbers as the column has them. RecipeError, at `where`, for what is none."""
    text = " ".join(repr(float(step)) for step in spacing)
    try:
        read_spacing(text)
    except ValueError as error:
        raise RecipeError(str(error), where=where, hint="in mm: [0.7, 0.7]") from error
    return text


def count_stated(values: Sequence[str] | None) -> int:
    """How many numbers every case has: 0, 2 or 3. Three allow volumes in ml, also of single slices."""
    return min((len(value.split()) for value in values), default=0) if values else 0
