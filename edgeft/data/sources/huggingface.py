"""Hugging Face datasets: a folder that `save_to_disk` wrote, or a hub id pinned to a commit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from edgeft.data.source import DataSpec, FileDigest, Meter, Source, Warn, digest_files, require_columns
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


class HuggingFaceSource(Source):
    """A dataset of the `datasets` library; class labels come out as their names.

    All its splits are read, one after the other, with their name in a column `split` (unless the data has such a
    column): `data.split: split` then keeps them apart, otherwise edgeft divides the rows itself.
    """

    name: ClassVar[str] = "huggingface"

    config: str | None = Field(None, description="Named subset of a hub dataset.")
    split: str | None = Field(None, description="Read this split of the dataset only.")

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """Digests of a local folder's files; id and commit of a hub dataset (nothing is looked up)."""
        content = {}
        for split, place in _places(spec):
            local = Path(place)
            content[split or "all"] = (
                digest_files(local, file_digest) if local.is_dir() else {"id": place, "revision": _commit(spec)}
            )
        return {**self.identity(), "content": content}

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """Rows of the local folder or of the hub dataset; HF_HUB_OFFLINE is honoured."""
        import pyarrow as pa

        place = dict(_places(spec))[split]
        loaded = self._local(place) if Path(place).is_dir() else self._hub(place, _commit(spec))
        parts = dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "all"): loaded}
        if self.split and self.split in parts:
            parts = {self.split: parts[self.split]}
        elif self.split:
            known = ", ".join(sorted(parts))
            raise RecipeError(
                f"the dataset has no split '{self.split}'", where="data.options.split", hint=f"it has: {known}"
            )
        meter = Meter(place)
        tables = [_table(part, name, columns, place, meter) for name, part in sorted(parts.items())]
        table = pa.concat_tables(tables, promote_options="default")
        if not table.num_rows:
            raise StepError("the dataset holds no rows", where=place)
        return table

    def _local(self, place: str) -> Any:
        from datasets import load_from_disk

        try:
            return load_from_disk(place)
        except Exception as error:  # arrow, fsspec and json errors; all mean: not such a folder
            hint = "the folder must be one that `Dataset.save_to_disk` wrote"
            raise StepError(_first_line(error), where=place, hint=hint) from error

    def _hub(self, place: str, commit: str) -> Any:
        from datasets import load_dataset

        try:
            return load_dataset(place, self.config, revision=commit)
        except Exception as error:  # the hub client and the builders raise many kinds
            if offline():
                what = f"hub dataset '{place}' at {commit[:8]} is not on this machine, and the build is offline"
                hint = "gather it where there is internet: edgeft fetch RECIPE --into DIR"
            else:
                what = f"hub dataset '{place}' at {commit[:8]} cannot be read: {_first_line(error)}"
                hint = "check id, revision, data.options.config and the network; a script dataset cannot be run"
            raise StepError(what, where="data.path", hint=hint) from error


def offline() -> bool:
    """True when the environment forbids the hub (HF_HUB_OFFLINE, HF_DATASETS_OFFLINE)."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in names)


def _places(spec: DataSpec) -> list[tuple[str | None, str]]:
    found: list[tuple[str | None, str]]
    if spec.paths is not None:
        found = [(name, value) for name, value in spec.paths if value]
    elif spec.path:
        found = [(None, spec.path)]
    else:
        raise RecipeError("source 'huggingface' needs a path: a folder or a hub id", where="data.path")
    for name, place in found:
        if not Path(place).is_dir() and not HUB_ID.fullmatch(place):
            where = f"data.paths.{name}" if name else "data.path"
            raise RecipeError(
                f"no folder '{place}', and it is no hub id either", where=where, hint="ids look like org/name"
            )
    return found


def _commit(spec: DataSpec) -> str:
    """The pinned commit; a branch or tag can change and would make a cached result wrong."""
    if not spec.revision or not COMMIT.fullmatch(spec.revision):
        what = "a hub dataset needs the 40 digits of a commit" + (f", got '{spec.revision}'" if spec.revision else "")
        hint = (
            "see `Files and versions` on the dataset's page, or: git ls-remote https://huggingface.co/datasets/ID HEAD"
        )
        raise RecipeError(what, where="data.revision", hint=hint)
    return spec.revision


def _table(part: Any, name: str, columns: Sequence[str], place: str, meter: Meter) -> pa.Table:
    """The wanted columns of one split, class labels as names."""
    import pyarrow as pa

    own = list(part.column_names)
    present = own if "split" in own else [*own, "split"]
    require_columns(columns, present, place)
    wanted = [column for column in columns if column in own]
    meter.add(part.num_rows)
    arrays = {column: _plain(part, column) for column in wanted}
    meter.add(0, sum(array.nbytes for array in arrays.values()))
    if "split" in columns and "split" not in own:
        arrays["split"] = pa.array([name] * part.num_rows, pa.string())
    return pa.table({column: arrays[column] for column in columns})


def _plain(part: Any, column: str) -> Any:
    import pyarrow as pa

    if not part.num_rows:
        return pa.chunked_array([[]], pa.string())
    values = part.select_columns([column]).with_format("arrow")[:][column]
    names = getattr(part.features[column], "names", None)
    if names is None:
        return values
    return pa.array([None if (i := v.as_py()) is None or i < 0 else names[i] for v in values], pa.string())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
