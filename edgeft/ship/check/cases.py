"""A labelled file as the cases both sides are asked: read and checked as a build reads its data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import digest_json
from edgeft.data.checks import count_conflicts, count_duplicates
from edgeft.data.labels import mask_labels, order_labels
from edgeft.data.rows import MISSING, Rows, normalise, to_rows, wanted_columns
from edgeft.data.source import Warn, require_columns, source_for
from edgeft.data.table import read_split, write_split
from edgeft.errors import RecipeError, StepError
from edgeft.recipe.schema import Data
from edgeft.ship.check.record import DataRow, shown
from edgeft.ship.check.stated import Form
from edgeft.task import SelfSupervisedTask, Task

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
FOLDERS = frozenset({"image-folder", "image-masks"})
BY = "by "
"""How the columns of subgroups are called among the rows, so that one may be called `label` too."""
COLUMN_HINT = "columns are named by --text, --label and --unit, or by --recipe"


def read_cases(
    path: Path, form: Form, task: Task, labels: Sequence[str], by: Collection[str], out: Path, warn: Warn
) -> tuple[pa.Table, DataRow]:
    """(rows with their labels as places in `labels`, what they are). Files go into `out`.

    by: columns of subgroups, which the rows get as BY + name.

    RecipeError for a file that is of no use here; StepError with the rows that have no text or no label.
    """
    spec = _spec(path, form, task)
    table = _read(path, spec, task.columns[0], by, warn)
    return keep_cases(table, spec, form, task.columns[0], path, labels, by, out, warn)


def keep_cases(
    table: pa.Table, spec: Data, form: Form, content: str, path: Path, labels: Sequence[str], by: Collection[str],
    out: Path, warn: Warn,
) -> tuple[pa.Table, DataRow]:  # fmt: skip
    """What a source read, checked and written as a split; as `read_cases` gives it. content: the task's column."""
    rows = _known_labels(to_rows(table, spec, content, str(path)), spec, labels, warn)
    named = {name: dict(zip(rows.ids, map(_subgroup, table.column(name).to_pylist()), strict=True)) for name in by}
    count_conflicts(rows, warn)
    repeated = count_duplicates(rows)
    if repeated and rows.units is None:
        # A file that holds its rows twice would otherwise show half the margin on the same evidence.
        rows = replace(rows, units=[digest_json(normalise(value)) for value in rows.values])
        warn(f"{repeated} of {len(rows)} cases repeat an earlier one; equal cases count as one unit")
    split = out / "check.parquet"
    about = write_split(rows, labels, split)
    found = DataRow(
        path=shown(path), n=len(rows), units=about["units"], unit=form.unit or "row", digest=about["digest"],
        repeated=repeated,
    )  # fmt: skip
    written = read_split(split)
    for name, values in named.items():
        written = written.append_column(BY + name, [[values[key] for key in written.column("id").to_pylist()]])
    return written, found


def _read(path: Path, spec: Data, content: str, by: Collection[str], warn: Warn) -> pa.Table:
    source = source_for(spec)
    columns = list(dict.fromkeys([*wanted_columns(spec, content), *by]))
    try:
        table = source.read(spec, None, columns, warn)
        require_columns(columns, table.column_names, str(path))
    except RecipeError as error:
        hint = f"{error.hint.partition('; name it by')[0]}; {COLUMN_HINT}" if error.hint else COLUMN_HINT
        raise RecipeError(error.what, where=error.where.replace("data.path", "--data"), hint=hint) from error
    if not table.num_rows:
        raise StepError("the file holds no rows", where=str(path), hint="a check needs labelled cases")
    return table


def _subgroup(value: Any) -> str:
    """A value's name; whole numbers are written as such whatever the file's type."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return MISSING
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _known_labels(rows: Rows, spec: Data, labels: Sequence[str], warn: Warn) -> Rows:
    """The rows with their labels in the artefacts' spelling; RecipeError for one that the artefacts do not answer."""
    if not spec.label:
        return rows
    try:
        if rows.masks is None:
            return replace(rows, labels=order_labels(rows.labels, spec, labels, False, warn)[1])
        return replace(rows, labels=mask_labels(rows, spec, labels)[1])
    except RecipeError as error:
        hint = error.hint.partition("; to train")[0]
        raise RecipeError(error.what, where=f"--data {rows.where}", hint=hint) from error


def _spec(path: Path, form: Form, task: Task) -> Data:
    """The file as a recipe's `data:` would state it."""
    if not path.exists():
        raise RecipeError("there is no such file or folder", where=f"--data {path}")
    source, options = _source(path, form)
    image = "image" in task.columns
    if image != (source in FOLDERS):
        wanted = "a folder: one folder per class, or images/ and masks/" if image else "a .csv, .jsonl or .parquet file"
        raise RecipeError(f"this is no data for {task.name}", where=f"--data {path}", hint=wanted)
    if image and (source == "image-masks") != (task.name == "segmentation"):
        wanted = "images/ and masks/" if task.name == "segmentation" else "one folder per class"
        raise RecipeError(f"this is no data for {task.name}", where=f"--data {path}", hint=f"a folder with {wanted}")
    label = "" if isinstance(task, SelfSupervisedTask) else "label" if image else form.label
    return Data(
        source=source, path=str(path), options=dict(options), text=form.text, label=label, unit=form.unit or "row",
        group=form.group,
    )  # fmt: skip


def _source(path: Path, form: Form) -> tuple[str, Mapping[str, Any]]:
    """(source plug-in, options): by what the path is; the recipe's options where its source is the same."""
    if path.is_dir():
        name = "image-masks" if (path / "masks").is_dir() else "image-folder"
    elif (suffix := path.suffix.lower()) in TABLES:
        name = TABLES[suffix]
    else:
        known = f"{', '.join(TABLES)}, or a folder of images"
        raise RecipeError(f"'{path.suffix or path.name}' is no kind of data", where=f"--data {path}", hint=known)
    if form.source == name:
        return name, form.options
    return name, {"delimiter": "\t"} if path.suffix.lower() == ".tsv" else {}
