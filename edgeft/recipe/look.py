"""A first look at someone's data for `edgeft init`: which columns there are, and a sample of their values as text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from edgeft.errors import RecipeError

SAMPLE_ROWS = 20_000
MAX_CELL = 16 << 20
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
MASK_FOLDERS = ("images", "masks")
LOOKED_AT_MASKS = 200
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Look:
    """source: as `data.source` names it. columns: name -> values of the first rows, in order, "" for none.

    rows: how many there are; whole: False when only the first `SAMPLE_ROWS` were counted. options: `data.options`.
    """

    source: str
    columns: dict[str, list[str]]
    rows: int
    whole: bool = True
    options: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def look_at(path: Path) -> Look:
    """Columns and sample of a csv, jsonl or parquet file, a folder of those, or a folder of images.

    Images lie in one folder per class, or in images/ with masks/ beside it.

    Raises RecipeError when it is none of these, or cannot be read.
    """
    try:
        if path.is_dir():
            return _look_at_folder(path)
        if not path.is_file():
            from edgeft.recipe.extend import near_names

            raise RecipeError("no such file or folder", where=str(path), hint=near_names(path))
        kind = SUFFIXES.get(path.suffix.lower())
        if kind is None:
            hint = "csv, tsv, jsonl, parquet, or a folder with one folder of images per class"
            raise RecipeError(f"'{path.suffix}' is no data file edgeft reads", where=str(path), hint=hint)
        return {"csv": _look_at_csv, "jsonl": _look_at_jsonl, "parquet": _look_at_parquet}[kind](path)
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def _look_at_folder(path: Path) -> Look:
    if all((path / name).is_dir() for name in MASK_FOLDERS):
        return _look_at_masks(path)
    files = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
    if files:
        look = look_at(files[0])
        same = [file for file in files if SUFFIXES[file.suffix.lower()] == look.source]
        if len(same) == 1:
            return look
        note = f"{len(same)} files; the first, {files[0].name}, was looked at"
        return Look(look.source, look.columns, look.rows, False, look.options, (note,))
    labels = [
        folder.name
        for folder in sorted(path.iterdir())
        if folder.is_dir()
        for file in islice(folder.rglob("*"), SAMPLE_ROWS)
        if file.suffix.lower() in IMAGES
    ]
    if not labels:
        hint = "it needs csv, jsonl or parquet files, one folder of images per class, or images/ and masks/"
        raise RecipeError("nothing in this folder looks like data", where=str(path), hint=hint)
    return Look("image-folder", {"label": labels}, len(labels))


def _look_at_masks(path: Path) -> Look:
    """images/ and masks/: `value` holds, of the first masks, one entry for each value that a mask has."""
    from PIL import Image, UnidentifiedImageError

    files = sorted(file for file in (path / "masks").iterdir() if file.suffix.lower() == ".png")
    if not files:
        hint = "8-bit PNG files whose values are class numbers, named as the images are"
        raise RecipeError("there is no mask", where=str(path / "masks"), hint=hint)
    values: list[str] = []
    for file in files[:LOOKED_AT_MASKS]:
        try:
            with Image.open(file, formats=("PNG",)) as mask:
                counts = mask.histogram() if mask.mode in ("L", "P") else []
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RecipeError("cannot be read as a PNG file", where=str(file)) from error
        if not counts:
            raise RecipeError("not an 8-bit grey or palette image", where=str(file), hint="values are class numbers")
        values += [str(value) for value, count in enumerate(counts) if count]
    columns = {"value": values}
    cases = path / "cases.csv"
    if cases.is_file():
        columns |= {name: found for name, found in _look_at_csv(cases).columns.items() if name != "image"}
    notes = (f"The values of {min(len(files), LOOKED_AT_MASKS)} masks were looked at.",)
    return Look("image-masks", columns, len(files), True, {}, notes)


def _look_at_csv(path: Path) -> Look:
    encoding, text = _encoding(path)
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = max(",\t;|", key=first.count) if first else ","
    options = {} if delimiter == "," else {"delimiter": delimiter}
    if encoding != "utf-8":
        options["encoding"] = encoding
    limit = csv.field_size_limit(MAX_CELL)
    try:
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            header = next(reader, [])
            rows = list(islice((row for row in reader if row), SAMPLE_ROWS + 1))
    except (csv.Error, UnicodeError) as error:
        raise RecipeError(f"this is not a CSV file edgeft can read: {error}", where=str(path)) from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise RecipeError("the file has no rows", where=str(path), hint="the first line names the columns")
    columns = {
        name: [row[place] if place < len(row) else "" for row in rows[:SAMPLE_ROWS]]
        for place, name in enumerate(header)
        if name.strip()
    }
    return Look("csv", columns, min(len(rows), SAMPLE_ROWS), len(rows) <= SAMPLE_ROWS, options)


def _encoding(path: Path) -> tuple[str, str]:
    """(encoding, start of the text); a byte that is not UTF-8 in the first mebibyte makes it latin-1."""
    with path.open("rb") as stream:
        start = stream.read(1 << 20)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", start[: len(start) & ~1].decode("utf-16", "replace")
    if b"\0" in start:
        raise RecipeError("the file holds NUL bytes: it is no text file", where=str(path))
    try:
        return "utf-8", start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and error.end == len(start):
            return "utf-8", start.decode("utf-8-sig", "ignore")
        return "latin-1", start.decode("latin-1")


def _look_at_jsonl(path: Path) -> Look:
    rows = list(islice(_objects(path), SAMPLE_ROWS + 1))
    if not rows:
        raise RecipeError("the file has no rows", where=str(path), hint="one JSON object a line")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [_text(row.get(name)) for row in rows[:SAMPLE_ROWS]] for name in names}
    return Look("jsonl", columns, min(len(rows), SAMPLE_ROWS), len(rows) <= SAMPLE_ROWS)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_CELL), b""), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise RecipeError("not a JSON object", where=f"{path}:{number}", hint="one object a line") from error
            if not isinstance(row, dict):
                raise RecipeError("not a JSON object", where=f"{path}:{number}", hint="one object a line")
            yield row


def _text(value: Any) -> str:
    if value is None or isinstance(value, (dict, list)):
        return ""
    return str(value)


def _look_at_parquet(path: Path) -> Look:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            total = file.metadata.num_rows
            flat = [column.name for column in file.schema_arrow if not pa.types.is_nested(column.type)]
            batch = next(file.iter_batches(batch_size=SAMPLE_ROWS, columns=flat), None)
    except (pa.ArrowException, OSError) as error:
        raise RecipeError(f"not a Parquet file: {str(error).splitlines()[0]}", where=str(path)) from error
    if batch is None or not total:
        raise RecipeError("the file has no rows", where=str(path))
    columns = {name: [_text(value) for value in batch.column(name).to_pylist()] for name in flat}
    return Look("parquet", columns, total)
