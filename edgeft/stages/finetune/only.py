"""Training on part of the rows: those that have stated values in columns of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from edgeft.data.table import by_column, column_array
from edgeft.errors import StepError

if TYPE_CHECKING:
    import pyarrow as pa

Value = Annotated[str, Field(min_length=1)] | bool | int
Only = dict[Annotated[str, Field(min_length=1)], Value | Annotated[tuple[Value, ...], Field(min_length=1)]]
"""Column -> the value, or the values, that a row may have there."""


def allowed(only: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Column -> values as the splits spell them: whole numbers in decimals, truth values as true and false."""
    return {
        column: tuple(_spelt(value) for value in (stated if isinstance(stated, tuple | list) else (stated,)))
        for column, stated in only.items()
    }


def select(rows: pa.Table, only: Mapping[str, Any], where: str) -> pa.Table:
    """The rows of a split that have an allowed value in every column, in their order. Raises StepError for none."""
    import numpy as np

    kept = np.ones(rows.num_rows, bool)
    for column, values in allowed(only).items():
        if by_column(column) not in rows.column_names:
            raise StepError(f"only: the split has no column '{column}'", where=where)
        kept &= np.isin(column_array(rows, by_column(column)), values)
    if rows.num_rows and not kept.any():
        raise StepError(f"only: no row has {describe(only)}", where=where)
    return rows.take(np.flatnonzero(kept))


def describe(only: Mapping[str, Any]) -> str:
    """For messages: `scanner plain or bias and site a`."""
    return " and ".join(f"{column} {' or '.join(values)}" for column, values in allowed(only).items())


def absent(only: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(column, value, values there are) of each value that no row of a split has. about: that split's facts."""
    for column, values in allowed(only).items():
        there = tuple(about.get("by", {}).get(column, {}))
        yield from ((column, value, there) for value in values if value not in there)


def _spelt(value: str | bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()
