"""Rows of medical images belong to patients: grouped by them, or refused, or taken ungrouped by the user's own word."""

from __future__ import annotations

from edgeft.data.rows import Rows
from edgeft.data.source import DataSpec, Source, Warn, source_for
from edgeft.errors import RecipeError

PATIENT = "patient"
UNGROUPED = (
    "rows are not grouped by patient (ungrouped: true): one patient may stand in several splits, which flatters every "
    "score, and intervals count images, not patients"
)


def default_group(spec: DataSpec) -> str | None:
    """The column that rows are grouped by where the recipe names none.

    RecipeError, at data.group, where a medical source knows no patients and the recipe does not accept that.
    """
    source = source_for(spec)
    if spec.group is not None or not source.patients or getattr(source, "ungrouped", False):
        return spec.group
    if source.patients == "column":
        return PATIENT
    what = f"source '{source.name}' does not say which rows are of one patient"
    hint = "name a column of cases.csv that does, or say that you accept it: data: {options: {ungrouped: true}}"
    if source.name == "medmnist":
        hint = "MedMNIST files name no patients: say that you accept it: data: {options: {ungrouped: true}}"
    raise RecipeError(what, where="data.group", hint=hint)


def warn_ungrouped(source: Source, rows: Rows, warn: Warn) -> None:
    """What the report must say of a medical source without groups."""
    if source.patients and rows.groups is None:
        warn(UNGROUPED)
