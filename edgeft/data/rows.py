"""A source's table as checked rows: text, label, group, unit and split of each, all of them plain strings."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeft.data.source import DataSpec
from edgeft.data.spacing import COLUMN, check_spacing
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CELL_BYTES = 1_000_000
MISSING = "(missing)"
"""The subgroup of rows that have no value in a column by which a gate divides them."""
SHOWN = 5


@dataclass(frozen=True)
class Rows:
    """Columns of equal length. `ids` are unique; groups and units are None where the recipe names no column.

    where: the file the rows come from, for messages. content: name of the task's column (`text`, `image`).
    files: where each row's image lies, None for text; `values` are then SHA-256 digests of the files, so that equal
    images are found like equal texts, and ids are their names. masks, mask_digests: the same for segmentation's masks;
    present: the values each mask has, or the places of the labels each case has, with a space between. spacing: in mm,
    as data/spacing.py reads it. pixels: digests of the decoded images where the source gives them, `""` for an image
    of one value, which says nothing of whose it is. more: columns by which gates divide the cases; what has no value
    is `(missing)`.
    """

    where: str
    content: str
    ids: list[str]
    values: list[str]
    labels: list[str]
    groups: list[str] | None
    units: list[str] | None
    splits: list[str] | None
    files: list[str] | None = None
    masks: list[str] | None = None
    mask_digests: list[str] | None = None
    present: list[str] | None = None
    spacing: list[str] | None = None
    pixels: list[str] | None = None
    more: Mapping[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def several(self) -> bool:
        """Whether a case has any number of labels, none too."""
        return self.present is not None and self.masks is None

    def take(self, places: Sequence[int]) -> Rows:
        """The rows at these places, in this order."""

        def pick(column: list[str] | None) -> list[str] | None:
            return None if column is None else [column[place] for place in places]

        return replace(
            self,
            ids=[self.ids[place] for place in places],
            values=[self.values[place] for place in places],
            labels=[self.labels[place] for place in places],
            groups=pick(self.groups),
            units=pick(self.units),
            splits=pick(self.splits),
            files=pick(self.files),
            masks=pick(self.masks),
            mask_digests=pick(self.mask_digests),
            present=pick(self.present),
            spacing=pick(self.spacing),
            pixels=pick(self.pixels),
            more={name: [column[place] for place in places] for name, column in self.more.items()},
        )


def wanted_columns(spec: DataSpec, content: str, by: Sequence[str] = ()) -> list[str]:
    """Columns the source must give, each once; `content` is the task's own column (`text` is renamed by data.text).
    by: further ones, by which gates divide the cases."""
    unit = None if spec.unit == "row" else spec.unit
    names = [content_column(spec, content), spec.label, spec.group, unit, spec.split, *by]
    return list(dict.fromkeys(name for name in names if name))


def content_column(spec: DataSpec, content: str) -> str:
    """The source's column behind the task's `content` column."""
    return spec.text if content == "text" else content


def to_rows(
    table: pa.Table, spec: DataSpec, content: str, where: str, prefix: str = "", by: Sequence[str] = (),
    several: bool = False,
) -> Rows:  # fmt: skip
    """Rows of a table. Ids are `prefix` and the row's number, counted from 1 without a header. by: as `wanted_columns`.
    several: a label may be missing, where a case has any number of them.

    StepError with the first rows that have an empty, missing or overlong cell; RecipeError for a column of a type that
    cannot be a text or a label.
    """
    column = content_column(spec, content)
    _validate(table.select(wanted_columns(spec, content, by)), where)
    values = _text(table, column, where)
    groups = _names(table, spec.group, where) if spec.group else None
    named = None if spec.unit == "row" else spec.unit
    units = _names(table, named, where) if named else groups if spec.unit is None else None
    rows = Rows(
        where=where,
        content=content,
        ids=[f"{prefix}{number}" for number in range(1, table.num_rows + 1)],
        values=values,
        labels=_labels(table, spec, where, several),
        groups=groups,
        units=units,
        splits=_names(table, spec.split, where) if spec.split else None,
        more={name: [value or MISSING for value in _spelt(table, name, where)] for name in by},
    )
    return _with_files(rows, table, prefix) if "file" in table.column_names else rows


def _labels(table: pa.Table, spec: DataSpec, where: str, several: bool) -> list[str]:
    """`""` in every row where the data have no label."""
    if not spec.label:
        return [""] * table.num_rows
    return _spelt(table, spec.label, where) if several else _names(table, spec.label, where)


def _with_files(rows: Rows, table: pa.Table, prefix: str) -> Rows:
    """Rows of images: called by their names, equal where their files are."""
    from edgeft.data.pack import file_sha256

    def column(name: str) -> list[str] | None:
        return table.column(name).to_pylist() if name in table.column_names else None

    files, masks, stated = column("file") or [], column("mask_file"), column(COLUMN)
    ids = [f"{prefix}{name}" for name in rows.values]
    return replace(
        rows,
        ids=ids,
        values=[file_sha256(file) for file in files],
        files=files,
        masks=masks,
        mask_digests=None if masks is None else [file_sha256(mask) for mask in masks],
        present=column("present"),
        spacing=None if stated is None or masks is None else check_spacing(stated, ids, rows.where),
        pixels=column("pixels"),
    )


def classes_of(rows: Rows, place: int, labels: Sequence[str]) -> list[str]:
    """The label of a row, or all labels that its mask has."""
    if rows.present is None:
        return [rows.labels[place]]
    return [labels[int(value)] for value in rows.present[place].split()]


def normalise(text: str) -> str:
    """What counts as the same text: Unicode NFC, runs of white space as one space, letter case folded."""
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()


def _text(table: pa.Table, column: str, where: str) -> list[str]:
    import pyarrow.types as kinds

    kind = table.schema.field(column).type
    plain = kind.value_type if kinds.is_dictionary(kind) else kind
    texts = (kinds.is_string, kinds.is_large_string, kinds.is_string_view, kinds.is_null)
    if not any(is_kind(plain) for is_kind in texts):
        hint = "name the text column by data.text"
        raise RecipeError(f"column '{column}' holds {kind} values, text is expected", where=where, hint=hint)
    values: list[str] = table.column(column).to_pylist()
    _refuse(where, column, "empty or missing", [n for n, value in enumerate(values, 1) if not value or value.isspace()])
    long = [n for n, value in enumerate(values, 1) if _bytes(value) > MAX_CELL_BYTES]
    _refuse(where, column, f"longer than {MAX_CELL_BYTES // 1_000_000} MB", long)
    return values


def _bytes(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode())


def _validate(table: pa.Table, where: str) -> None:
    """Offsets and UTF-8 of what a Parquet or Arrow file states without having been checked."""
    import pyarrow as pa

    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise StepError(
            f"damaged values: {str(error).splitlines()[0]}", where=where, hint="write the file anew"
        ) from error


def _names(table: pa.Table, column: str | None, where: str) -> list[str]:
    """A column of labels, groups or splits as strings: texts, whole numbers and truth values."""
    values = _spelt(table, column, where)
    _refuse(where, column or "", "empty or missing", [row for row, value in enumerate(values, 1) if value == ""])
    return values


def _spelt(table: pa.Table, column: str | None, where: str) -> list[str]:
    """The same where a value may be missing: `""`."""
    values = [_name(value) for value in table.column(column).to_pylist()]
    broken = [row for row, value in enumerate(values, 1) if value is None]
    if broken:
        kind = table.schema.field(column).type
        what = f"column '{column}' holds {kind} values that are no names: {_rows_text(broken)}"
        raise RecipeError(
            what, where=where, hint="labels, groups, splits and subgroups are texts, whole numbers or true/false"
        )
    long = [row for row, value in enumerate(values, 1) if len(value or "") > MAX_CELL_BYTES]
    _refuse(where, column or "", f"longer than {MAX_CELL_BYTES // 1_000_000} MB", long)
    return [value or "" for value in values]


def _name(value: Any) -> str | None:
    """`""` for what is missing, None for what cannot name anything."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return None


def _refuse(where: str, column: str, fault: str, rows: list[int]) -> None:
    if rows:
        what = f"column '{column}' is {fault} in {len(rows)} row{'s' * (len(rows) > 1)}: {_rows_text(rows)}"
        raise StepError(what, where=where, hint="rows are counted from 1 without the header; fill or remove them")


def _rows_text(rows: list[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:SHOWN])
    return f"row{'s' * (len(rows) > 1)} {shown}" + (", ..." if len(rows) > SHOWN else "")
