"""Tables in files: CSV, JSON lines and Parquet. A path is one file, or a folder of files of that kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import Field

from edgeft.data.source import DataSpec, Meter, Source, Warn, path_of, require_columns
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 16 << 20
MAX_LINE_BYTES = 16 << 20


class TableSource(Source):
    """Reads each file of the path and puts the tables together."""

    suffixes: ClassVar[tuple[str, ...]]

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """Only `columns` are read."""
        import pyarrow as pa

        path = path_of(spec, split)
        meter = Meter(str(path))
        files = self.files(path)
        if not files:
            raise RecipeError(f"no {' or '.join(self.suffixes)} file in this folder", where=str(path))
        tables = [self.read_file(file, columns, meter) for file in files]
        try:
            return pa.concat_tables(tables)
        except pa.ArrowInvalid as error:
            hint = "every file needs the same column types"
            raise StepError(f"the files differ: {str(error).splitlines()[0]}", where=str(path), hint=hint) from error

    def files(self, path: Path) -> list[Path]:
        """The file, or those of the source's kind in a folder."""
        return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix in self.suffixes)

    def read_file(self, path: Path, columns: Sequence[str], meter: Meter) -> pa.Table:
        """One file; StepError with file and line when it is malformed."""
        raise NotImplementedError(type(self).__name__)


class CsvSource(TableSource):
    """Comma-separated values with a header. Every value is read as the text that stands there (`01` stays `01`)."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    delimiter: str = Field(",", min_length=1, max_length=1, description="One character; a tab for .tsv files.")
    quote: str = Field('"', min_length=1, max_length=1, description="Character around values that hold delimiters.")
    encoding: str = Field("utf-8", description="Encoding of the file, for instance latin-1 or utf-16.")

    def columns(self, path: Path) -> list[str] | None:
        """The header of the first file."""
        from edgeft.data.sources import csv_faults

        files = self.files(path)
        if not files:
            return None
        return csv_faults.read_header(files[0], self.delimiter, self.quote, self.encoding, scan=False)

    def read_file(self, path: Path, columns: Sequence[str], meter: Meter) -> pa.Table:
        """Streamed through pyarrow; what it refuses is looked at again line by line to name the place."""
        import pyarrow as pa
        from pyarrow import csv

        from edgeft.data.sources import csv_faults

        header = csv_faults.read_header(path, self.delimiter, self.quote, self.encoding)
        require_columns(columns, header, str(path))
        types = {column: pa.string() for column in columns}
        try:
            reader = csv.open_csv(
                path,
                csv.ReadOptions(block_size=BLOCK_BYTES, encoding=self.encoding),
                csv.ParseOptions(delimiter=self.delimiter, quote_char=self.quote, newlines_in_values=True),
                csv.ConvertOptions(include_columns=list(columns), column_types=types, strings_can_be_null=False),
            )
            batches = []
            for batch in reader:
                meter.add(batch.num_rows, batch.nbytes)
                batches.append(batch)
        except (pa.ArrowInvalid, UnicodeError, OSError) as error:
            csv_faults.explain(path, self.delimiter, self.quote, self.encoding, error)
        table = pa.Table.from_batches(batches, schema=reader.schema)
        if not table.num_rows:
            raise StepError("only a header, no rows", where=f"{path}:1")
        return table


class JsonlSource(TableSource):
    """One JSON object a line."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")

    def read_file(self, path: Path, columns: Sequence[str], meter: Meter) -> pa.Table:
        """Lines are parsed one by one; blank lines are skipped, keys that are not asked for are dropped."""
        import pyarrow as pa

        data: dict[str, list[Any]] = {column: [] for column in columns}
        seen: set[str] = set()
        for number, line in _lines(path):
            row = _object(path, number, line)
            meter.add(1, len(line))
            seen.update(row)
            for column, values in data.items():
                values.append(_scalar(path, number, column, row.get(column)))
        if not any(data.values()):
            raise StepError("the file holds no rows", where=str(path))
        require_columns(columns, sorted(seen), str(path))
        return pa.table({column: _array(path, column, values) for column, values in data.items()})


class ParquetSource(TableSource):
    """Apache Parquet."""

    name: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def columns(self, path: Path) -> list[str] | None:
        """The schema in the first file's footer; a file that cannot be opened is named when its rows are read."""
        import pyarrow as pa
        from pyarrow import parquet

        files = self.files(path)
        try:
            return list(parquet.read_schema(files[0]).names) if files else None
        except (pa.ArrowException, OSError):
            return None

    def read_file(self, path: Path, columns: Sequence[str], meter: Meter) -> pa.Table:
        """Row groups are streamed; the footer's own row count is checked before anything is decoded."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(path) as file:
                require_columns(columns, file.schema_arrow.names, str(path))
                Meter(str(path)).add(file.metadata.num_rows)
                batches = []
                for batch in file.iter_batches(batch_size=16384, columns=list(columns)):
                    meter.add(batch.num_rows, batch.nbytes)
                    batches.append(batch)
        except (pa.ArrowException, OSError) as error:
            hint = "is it a Parquet file, and was it copied whole?"
            raise StepError(str(error).splitlines()[0], where=str(path), hint=hint) from error
        if not batches:
            raise StepError("the file holds no rows", where=str(path))
        return pa.Table.from_batches(batches).select(list(columns))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of every line that is not blank."""
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                hint = "one JSON object a line; a JSON array over many lines is another format"
                raise StepError(f"a line longer than {MAX_LINE_BYTES >> 20} MB", where=f"{path}:{number}", hint=hint)
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    where = f"{path}:{number}"
    try:
        row = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_no_duplicates)
    except UnicodeDecodeError as error:
        raise StepError(
            f"byte {error.start + 1} of the line is not UTF-8", where=where, hint="save it as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        hint = "one JSON object a line"
        raise StepError(f"not JSON: {error.msg}", where=f"{where}:{error.colno}", hint=hint) from error
    except RecursionError as error:
        raise StepError("nested too deeply", where=where) from error
    except ValueError as error:
        raise StepError(str(error), where=where) from error
    if not isinstance(row, dict):
        hint = 'for instance {"text": "...", "label": "..."}'
        raise StepError(f"a {type(row).__name__}, an object is expected", where=where, hint=hint)
    return row


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' stands twice")
    return row


def _scalar(path: Path, number: int, column: str, value: Any) -> Any:
    if isinstance(value, (dict, list)):
        what = f"column '{column}' holds a {type(value).__name__}, text or a number is expected"
        raise StepError(what, where=f"{path}:{number}")
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise StepError(f"column '{column}' holds half of a surrogate pair (\\ud800...)", where=f"{path}:{number}")
    return value


def _array(path: Path, column: str, values: list[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        what = f"column '{column}' mixes kinds: {', '.join(kinds)}"
        raise StepError(what, where=str(path), hint="write every value as text") from error
