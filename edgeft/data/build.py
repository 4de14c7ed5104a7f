"""The first step of every build: a recipe's `data:` becomes a `dataset` folder of up to five splits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import Facts, canonical_json
from edgeft.data import checks, stated
from edgeft.data.expect import check_expected
from edgeft.data.labels import mask_labels, order_labels, several_labels
from edgeft.data.patients import warn_ungrouped
from edgeft.data.rows import Rows, content_column, to_rows, wanted_columns
from edgeft.data.source import DataSpec, Fractions, Intake, Source, Warn, require_columns, source_for
from edgeft.data.spacing import count_stated
from edgeft.data.split import blocks_of, divide, take_blocks
from edgeft.data.table import read_split as read_split
from edgeft.data.table import write_split
from edgeft.errors import RecipeError
from edgeft.stage import SPLITS
from edgeft.task import SeveralTask

if TYPE_CHECKING:
    from edgeft.task import Task

Parts = dict[str, list[int]]
Tell = Callable[[float, float, str, str], None]

LEARNING = ("train", "validation")
DECODED = ".decoded"
"""Folder of images that a source wrote, inside the step's own; gone once the splits hold them."""


def build_dataset(
    data: DataSpec, seed: int, task: Task, out: Path, *,
    model_labels: Sequence[str] | None, trains: bool, validates: bool = False, by: Sequence[str] = (),
    medical: Mapping[str, Any] | None = None, warn: Warn, progress: Tell,
) -> Facts:  # fmt: skip
    """Write `<split>.parquet` and dataset.json into `out`; returns what dataset.json says.

    model_labels: the model's own label order, None when it has none. trains: whether any step learns from rows; if none
    does, the fractions of train and validation go to the other three in proportion and both splits stay empty. by:
    columns by which gates divide the cases, kept in the splits. data.label is empty where rows have no label. medical:
    as Intake has it.
    progress(done, total, unit, note) is told of reading and writing. RecipeError or StepError as the parts raise them.
    """
    warnings: list[str] = []

    def note(text: str) -> None:
        warnings.append(text)
        warn(text)

    source = source_for(data)
    progress(0, 3, "parts", "reading")
    with _decoded_folder(out) as folder:
        several = isinstance(task, SeveralTask)
        rows, parts = _read(source, data, task.columns[0], by, note, Intake(folder, medical, several))
        rows, labels = _label(rows, data, model_labels, trains, note, several)
        warn_ungrouped(source, rows, note)
        progress(1, 3, "parts", f"dividing {len(rows)} rows")
        parts, how = _divide(rows, parts, data, seed, _read_by_steps(trains, validates), note)
        found = _check(rows, parts, labels, trains, note)
        progress(2, 3, "parts", "writing")
        splits = {
            name: write_split(rows.take(places), labels, out / f"{name}.parquet") for name, places in parts.items()
        }
    facts = {
        "labels": labels,
        "task": task.name,
        "content": rows.content,
        "unit": "row" if rows.units is None else (data.unit or data.group),
        "splits": splits,
        "division": how,
        "checks": found,
        **({} if rows.masks is None else {"spacing": count_stated(rows.spacing)}),
        "warnings": warnings,
        "source": {**source.identity(), "rows": len(rows)},
    }
    (out / "dataset.json").write_bytes(canonical_json(facts, indent=1))
    progress(3, 3, "parts", "")
    return facts


def _label(
    rows: Rows, data: DataSpec, model_labels: Sequence[str] | None, trains: bool, warn: Warn, several: bool
) -> tuple[Rows, list[str]]:
    """(rows with labels as the order spells them, that order), held against what the recipe expects."""
    labels: list[str]
    if not data.label:
        return rows, []
    if several:
        labels, rows = several_labels(rows, data, model_labels)
    elif rows.masks is None:
        labels, spelt = order_labels(rows.labels, data, model_labels, trains, warn)
        rows = replace(rows, labels=spelt)
    else:
        labels, spelt = mask_labels(rows, data, model_labels)
        rows = replace(rows, labels=spelt)
    if data.expect is not None:
        check_expected(rows, labels, data.expect)
    return rows, labels


@contextmanager
def _decoded_folder(out: Path) -> Iterator[Path]:
    """A folder for what a source decodes, gone in any case: it must not become part of the step's output."""
    folder = out / DECODED
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(rows: Rows, parts: Parts, labels: Sequence[str], trains: bool, warn: Warn) -> dict[str, int]:
    """What must hold of the splits; the counts (over the rows that were kept) are `checks` in the facts."""
    checks.check_groups(rows, parts)
    images = {"repeated_images": checks.check_pixels(rows, parts, warn)} if rows.pixels is not None else {}
    checks.check_classes(rows, parts, labels, trains, warn)
    kept = rows.take(sorted(place for places in parts.values() for place in places))
    return {
        **images,
        "conflicting_labels": checks.count_conflicts(kept, warn),
        "repeated_texts": checks.count_duplicates(kept),
        "texts_in_two_splits": checks.check_leakage(rows, parts, warn),
    }


def _read(
    source: Source,
    data: DataSpec,
    content: str,
    by: Sequence[str],
    warn: Warn,
    intake: Intake,
) -> tuple[Rows, Parts | None]:
    """All rows, and the places of each split where every split has its own path."""
    if data.paths is None:
        return _read_one(source, data, None, content, by, warn, intake), None
    parts: Parts = {}
    pieces: list[Rows] = []
    start = 0
    for name, path in data.paths:
        if path:
            piece = _read_one(source, data, name, content, by, warn, intake)
            parts[name] = list(range(start, start + len(piece)))
            start += len(piece)
            pieces.append(piece)
    return _join(pieces), parts


def _read_one(
    source: Source,
    data: DataSpec,
    split: str | None,
    content: str,
    by: Sequence[str],
    warn: Warn,
    intake: Intake,
) -> Rows:
    columns = wanted_columns(data, content, by)
    own = replace(intake, folder=intake.folder / (split or "all"))
    own.folder.mkdir(parents=True)
    table = source.read_into(data, split, columns, warn, own)
    place = getattr(data.paths, split) if split else data.path
    where = str(place or f"source '{source.name}'")
    require_columns([content_column(data, content), *columns], table.column_names, where)
    return to_rows(table, data, content, where, f"{split}:" if split else "", by, intake.several)


def _join(pieces: list[Rows]) -> Rows:
    def chain(columns: list[list[str] | None]) -> list[str] | None:
        return None if columns[0] is None else [value for column in columns for value in column or []]

    return replace(
        pieces[0],
        where="data.paths",
        ids=[value for piece in pieces for value in piece.ids],
        values=[value for piece in pieces for value in piece.values],
        labels=[value for piece in pieces for value in piece.labels],
        groups=chain([piece.groups for piece in pieces]),
        units=chain([piece.units for piece in pieces]),
        files=chain([piece.files for piece in pieces]),
        masks=chain([piece.masks for piece in pieces]),
        mask_digests=chain([piece.mask_digests for piece in pieces]),
        present=chain([piece.present for piece in pieces]),
        spacing=_join_spacing(pieces),
        pixels=chain([piece.pixels for piece in pieces]),
        more={name: [value for piece in pieces for value in piece.more[name]] for name in pieces[0].more},
    )


def _join_spacing(pieces: list[Rows]) -> list[str] | None:
    """None where a part has none: a metric in mm of some cases is none of the whole."""
    if any(piece.spacing is None for piece in pieces):
        return None
    return [value for piece in pieces for value in piece.spacing or ()]


def _divide(
    rows: Rows, parts: Parts | None, data: DataSpec, seed: int, reads: frozenset[str], warn: Warn
) -> tuple[Parts, dict[str, Any]]:
    """Places of each split, and how they were found (`division` in the facts)."""
    if parts is None and data.split:
        parts = stated.by_column(rows)
    if parts is None:
        return _by_fractions(rows, data, seed, reads)
    checks.check_groups(rows, parts)
    if data.limit and data.limit < sum(map(len, parts.values())):
        parts = _limit_each(rows, parts, data.limit, seed)
    parts = stated.complete(rows, parts, data.fractions, seed, reads, warn)
    shares = {name: getattr(data.fractions, name) or stated.SMALL_SHARE for name in parts}
    checks.check_sizes(rows, parts, shares, len(rows))
    return parts, {"by": "column" if data.split else "paths"}


def _by_fractions(rows: Rows, data: DataSpec, seed: int, reads: frozenset[str]) -> tuple[Parts, dict[str, Any]]:
    shares = split_shares(data.fractions, reads)
    blocks = blocks_of(rows)
    checks.check_blocks(rows, blocks)
    if data.limit and data.limit < len(rows):
        blocks = take_blocks(blocks, data.limit, seed)
    divided = divide(blocks, shares, seed)
    parts = {name: sorted(place for block in divided[name] for place in block.rows) for name in shares}
    checks.check_sizes(rows, parts, shares, len(blocks))
    return parts, {"by": "fractions", "shares": shares, "blocks": len(blocks)}


def split_shares(fractions: Fractions, reads: frozenset[str]) -> dict[str, float]:
    """Share of each split that will exist, adding up to 1.

    Of train and validation, what no step reads gets none and its share goes to the others in proportion. RecipeError
    when training has no train rows, or a merge without training no validation rows.
    """
    shares: Mapping[str, float] = {name: getattr(fractions, name) for name in SPLITS}
    needed = next(iter(sorted(reads)), None)
    if needed and not shares[needed]:
        raise RecipeError(f"a step reads {needed}, but its fraction is 0", where=f"data.fractions.{needed}")
    kept = {name: share for name, share in shares.items() if share and (name in reads or name not in LEARNING)}
    whole = sum(kept.values())
    return {name: round(share / whole, 9) for name, share in kept.items()}


def _read_by_steps(trains: bool, validates: bool) -> frozenset[str]:
    """Of train and validation, those that a step reads: a merge measures itself on validation though nothing trains."""
    return frozenset(LEARNING if trains else LEARNING[1:] if validates else ())


def _limit_each(rows: Rows, parts: Parts, limit: int, seed: int) -> Parts:
    """At most `limit` rows over all stated splits, each in proportion, whole groups."""
    whole = sum(map(len, parts.values()))
    cut = {}
    for name, places in parts.items():
        own = blocks_of(rows.take(places))
        blocks = take_blocks(own, limit * len(places) // whole, seed) or own[:1]
        cut[name] = sorted(places[place] for block in blocks for place in block.rows)
    return cut
