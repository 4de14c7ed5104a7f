"""Rows from the user's own Python function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field

from edgeft.data.source import DataSpec, FileDigest, Meter, Source, Warn, digest_files, require_columns
from edgeft.errors import RecipeError, StepError
from edgeft.usercode import call, calling, code_digest, import_path, load_function

if TYPE_CHECKING:
    import pyarrow as pa


class PythonSource(Source):
    """`path: file.py:function`, called with the options as keyword arguments.

    It returns an iterable of dictionaries (a generator too), a dictionary of columns, a pyarrow table, or anything with
    the Arrow C stream interface (a pandas or polars data frame). The file, the modules beside it that it imports, the
    options and the files named in `reads` enter the cache key; whatever else the function looks at does not.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    name: ClassVar[str] = "python"

    reads: tuple[str, ...] = Field((), description="Files and folders the function reads, from its file's folder.")

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """Digests of the code and of the files it says it reads."""
        content: dict[str, Any] = {}
        for split, code in _codes(spec):
            where = f"data.paths.{split}" if split else "data.path"
            read = {name: digest_files(path, file_digest) for name, path in self._read_paths(code)}
            content[split or "all"] = {"code": code_digest(code, file_digest, where), "reads": read}
        return {**self.identity(), "content": content}

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """Call the function; StepError at the user's own line when it raises."""
        code = dict(_codes(spec))[split]
        self._read_paths(code)
        function = load_function(code, f"data.paths.{split}" if split else "data.path")
        table = to_table(code, call(code, function, **(self.model_extra or {})))
        require_columns(columns, table.column_names, f"the table that {code} returned")
        if not table.num_rows:
            raise StepError(f"{code} returned no rows")
        return table

    def _read_paths(self, code: str) -> list[tuple[str, Path]]:
        folder = Path(code.rpartition(":")[0]).parent
        found = [(name, folder / name) for name in self.reads]
        for name, path in found:
            if not path.exists():
                raise RecipeError(f"no file or folder {path}", where=f"data.options.reads: {name}")
        return found


def _codes(spec: DataSpec) -> list[tuple[str | None, str]]:
    if spec.paths is not None:
        return [(name, value) for name, value in spec.paths if value]
    if not spec.path:
        hint = "data: {source: python, path: rows.py:load}"
        raise RecipeError("source 'python' needs a path", where="data.path", hint=hint)
    return [(None, spec.path)]


def to_table(code: str, value: Any) -> pa.Table:
    """What a user's function returned, as a table; StepError when it is none of the accepted forms."""
    import pyarrow as pa

    try:
        if isinstance(value, pa.Table):
            return value
        if hasattr(value, "__arrow_c_stream__"):
            return pa.table(value)
        if isinstance(value, Mapping):
            return pa.table(dict(value))
        if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
            return pa.Table.from_pylist(_rows(code, value))
    except (pa.ArrowException, ValueError, TypeError) as error:
        what = f"{code} returned what is no table: {str(error).splitlines()[0]}"
        raise StepError(what, hint="every row needs the same keys with values of one kind") from error
    hint = "return a list of dictionaries, a dictionary of columns, a pyarrow table or a data frame"
    raise StepError(f"{code} returned a {type(value).__name__}", hint=hint)


def _rows(code: str, value: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows of an iterable, which may be a generator that fails half-way."""
    meter, rows = Meter(code), []
    with calling(code), import_path(Path(code.rpartition(":")[0]).parent):
        for row in value:
            meter.add(1)
            rows.append(row)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            hint = 'yield dictionaries such as {"text": ..., "label": ...}'
            raise StepError(f"row {number} of {code} is a {type(row).__name__}", hint=hint)
    if rows:
        rows[0] = {key: rows[0].get(key) for row in rows[:1000] for key in row}
    return rows
