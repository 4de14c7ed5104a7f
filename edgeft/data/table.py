"""Splits on disk: Parquet whose content digest depends on the rows alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import canonical_json
from edgeft.data.pack import MASKS, SUFFIX, attach_pack, write_pack
from edgeft.data.rows import Rows, classes_of
from edgeft.data.spacing import COLUMN
from edgeft.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

ROW_GROUP = 8192


def write_split(rows: Rows, labels: Sequence[str], path: Path) -> dict[str, Any]:
    """Write one split and return its facts: n, units, groups, digest, classes.

    Columns: id, the task's column, label (int64: place in `labels`, or of several the sum of 2 ** place, 0 where there
    are none), group, unit; of images also where their bytes lie, and `spacing` in mm where it is known; and `by:NAME`
    of those by which gates divide the cases. Rows are ordered by the digest of their content, so equal content gives an
    equal file order whatever the order of the source, and any prefix of a split is a fair sample of it. The digest
    covers text, label name, group and unit of each row; ids (row numbers of the source) are left out, because inserting
    a row elsewhere in the file does not make this another split, and so are the `by` columns: looking at the same gate
    set in other parts is another opening of the same set.
    """
    import pyarrow as pa
    from pyarrow import parquet

    digests = [row_digest(rows, place) for place in range(len(rows))]
    order = sorted(range(len(rows)), key=lambda place: (digests[place], len(rows.ids[place]), rows.ids[place]))
    rows = rows.take(order)
    images = _pack(rows, path)
    places = {label: place for place, label in enumerate(labels)}
    groups = rows.groups if rows.groups is not None else rows.ids
    units = rows.units if rows.units is not None else rows.ids
    table = pa.table(
        {
            "id": pa.array(rows.ids, pa.string()),
            rows.content: pa.array(rows.values, pa.string()),
            "label": pa.array([_code(rows, place, places) for place in range(len(rows))], pa.int64()),
            "group": pa.array(groups, pa.string()),
            "unit": pa.array(units, pa.string()),
            **{name: pa.array(column, pa.int64()) for name, column in images.items()},
            **({} if rows.spacing is None else {COLUMN: pa.array(rows.spacing, pa.string())}),
            **{by_column(name): pa.array(column, pa.string()) for name, column in rows.more.items()},
        }
    )
    options = {"compression": "zstd", "version": "2.6", "store_schema": False, "write_statistics": False}
    parquet.write_table(table, path, row_group_size=ROW_GROUP, **options)
    return {
        **_counts(rows, range(len(rows)), labels),
        "groups": len(set(groups)),
        "digest": sha256("".join(digests[place] for place in order).encode()).hexdigest(),
        **_count_parts(rows, labels),
        **_column_digests(rows),
    }


def _code(rows: Rows, place: int, places: Mapping[str, int]) -> int:
    """A row's label as one number; 0 where there are no labels."""
    if not places:
        return 0
    if rows.several and rows.present is not None:
        return sum(1 << int(value) for value in rows.present[place].split())
    return places[rows.labels[place]]


def by_column(name: str) -> str:
    """What a split calls the column by which a gate divides its cases."""
    return f"by:{name}"


def _counts(rows: Rows, places: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """n, units and classes of the rows at these places."""
    units = rows.units if rows.units is not None else rows.ids
    counts = Counter(label for place in places for label in classes_of(rows, place, labels))
    return {
        "n": len(places),
        "units": len({units[place] for place in places}),
        "classes": {label: counts[label] for label in labels},
    }


def _count_parts(rows: Rows, labels: Sequence[str]) -> dict[str, Any]:
    """{"by": column -> value -> its counts}, empty where no gate divides the cases."""
    found: dict[str, dict[str, Any]] = {}
    for name, column in rows.more.items():
        members: dict[str, list[int]] = {}
        for place, value in enumerate(column):
            members.setdefault(value, []).append(place)
        found[name] = {value: _counts(rows, places, labels) for value, places in sorted(members.items())}
    return {"by": found} if found else {}


def _column_digests(rows: Rows) -> dict[str, Any]:
    """{"columns": column -> digest of its values in the order of the rows}: steps that choose rows by one depend on
    it, and the digest of the split leaves it out."""
    found = {name: sha256(canonical_json(column)).hexdigest() for name, column in rows.more.items()}
    return {"columns": found} if found else {}


def _pack(rows: Rows, path: Path) -> dict[str, list[int]]:
    """The rows' images (and masks) beside the split; columns that say where each lies."""
    if rows.files is None:
        return {}
    places = write_pack(path.with_suffix(SUFFIX), rows.files, rows.values)
    columns = {"at": [place[0] for place in places], "size": [place[1] for place in places]}
    if rows.masks is not None and rows.mask_digests is not None:
        places = write_pack(path.with_suffix(MASKS), rows.masks, rows.mask_digests)
        columns |= {"mask_at": [place[0] for place in places], "mask_size": [place[1] for place in places]}
    return columns


def row_digest(rows: Rows, place: int) -> str:
    """SHA-256 over a row's content as canonical JSON: [text, label, group or null, unit or null].

    An image counts by the digest of its file, and with a mask by that file's too, and by its pixels' spacing.
    """
    group = rows.groups[place] if rows.groups is not None else None
    unit = rows.units[place] if rows.units is not None else None
    content = [rows.values[place], rows.labels[place], group, unit]
    if rows.mask_digests is not None:
        content.append(rows.mask_digests[place])
    if rows.spacing is not None:
        content.append(rows.spacing[place])
    return sha256(canonical_json(content)).hexdigest()


def read_split(path: Path) -> pa.Table:
    """A split's table as `write_split` wrote it, its images at hand; StoreError when the file is missing or damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return attach_pack(file.read(), path)
    except (OSError, pa.ArrowException) as error:
        hint = "remove the store's copy and build again"
        raise StoreError(
            f"the split cannot be read: {str(error).splitlines()[0]}", where=str(path), hint=hint
        ) from error


def column_array(rows: pa.Table, name: str) -> NDArray[Any]:
    """A column as a NumPy array (n,); pyarrow's own conversion would import pandas, which takes 0.2 s."""
    import numpy as np

    return np.array(rows.column(name).to_pylist())


def row_counts(facts: Mapping[str, Any]) -> dict[str, int]:
    """Split -> n, from dataset facts."""
    return {name: int(split["n"]) for name, split in facts["splits"].items()}
