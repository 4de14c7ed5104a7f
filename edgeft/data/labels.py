"""The order of the labels: stated, the model's own, or sorted; and what does not fit it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from edgeft.data.rows import Rows
from edgeft.data.source import DataSpec, Warn, did_you_mean
from edgeft.errors import RecipeError, StepError

SEPARATOR = "|"
"""Between the labels of a case that has several."""
MOST_SEVERAL = 62
"""Labels of such cases; a split holds them as the bits of one int64."""
MAX_SHARE_OF_ROWS = 0.5
"""More distinct labels than this share of the rows (and than 50) means that the column is no label."""


def order_labels(
    found: Sequence[str], spec: DataSpec, model_labels: Sequence[str] | None, trains: bool, warn: Warn
) -> tuple[list[str], list[str]]:
    """(labels in order, each row's label in their spelling).

    Order: data.labels, else the model's own, else sorted (by value when all are whole numbers). Data that spells labels
    as positions 0..n-1 of a model's label list is translated, with a warning. RecipeError for an unknown label, fewer
    than two labels, a column that is no label, or data.labels that contradicts a model nothing trains.
    """
    counts = Counter(found)
    _refuse_non_label(counts, spec)
    if spec.labels is not None:
        _check_stated(spec.labels, model_labels, trains)
        order = list(spec.labels)
    elif model_labels is not None:
        order = list(model_labels)
        if _are_positions(counts, order):
            warn(f"labels {_span(counts)} of the data are read as positions in the model's labels ({_shown(order)})")
            return order, [order[int(label)] for label in found]
    else:
        order = sorted(counts, key=_sort_key(counts))
        if not trains:
            warn(f"neither the model nor data.labels states an order of labels; assumed: {_shown(order)}")
    unknown = sorted(set(counts) - set(order))
    if unknown:
        _refuse_unknown(unknown[0], len(unknown), counts, order, spec)
    if len(order) < 2:
        raise RecipeError(f"only one label: '{order[0]}'", where="data.label", hint="a classifier needs at least two")
    return order, list(found)


def mask_labels(rows: Rows, spec: DataSpec, model_labels: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """(labels in the order of the masks' values, each row's largest in their spelling).

    Order: data.labels, else the model's own. RecipeError without either; StepError, with the file's name, for a mask
    that has a value beyond them.
    """
    order = list(spec.labels or model_labels or ())
    if len(order) < 2:
        hint = "in the order of the masks' values, the background first: data: {labels: [background, ...]}"
        raise RecipeError("what the values of the masks mean is not known", where="data.labels", hint=hint)
    for place, present in enumerate(rows.present or ()):
        beyond = [value for value in present.split() if int(value) >= len(order)]
        if beyond:
            what = f"the mask has the value {beyond[0]}, the labels are {_shown(order)}"
            hint = "values count from 0; name every label in data.labels, or correct the mask"
            raise StepError(what, where=(rows.masks or rows.ids)[place], hint=hint)
    return order, [order[int(label)] for label in rows.labels]


def several_labels(rows: Rows, spec: DataSpec, model_labels: Sequence[str] | None) -> tuple[list[str], Rows]:
    """(labels in order, the rows with `present` and each row's labels in one spelling) of cases with any number of
    labels: `a|b`, empty for none.

    Order: data.labels, else the model's own, else sorted. RecipeError for a label that is not among them, fewer than
    two, or more than MOST_SEVERAL.
    """
    found = [[name.strip() for name in cell.split(SEPARATOR) if name.strip()] for cell in rows.labels]
    counts = Counter(name for names in found for name in names)
    order = list(spec.labels or model_labels or sorted(counts, key=_sort_key(counts)))
    unknown = sorted(set(counts) - set(order))
    if unknown:
        _refuse_unknown(unknown[0], len(unknown), counts, order, spec)
    if not 2 <= len(order) <= MOST_SEVERAL:
        what = f"{len(order)} labels: from 2 to {MOST_SEVERAL} can be answered together"
        raise RecipeError(what, where="data.labels", hint=f"column '{spec.label}' holds them as a{SEPARATOR}b")
    places = [sorted({order.index(name) for name in names}) for names in found]
    spelt = [SEPARATOR.join(order[place] for place in row) for row in places]
    return order, replace(rows, labels=spelt, present=[" ".join(map(str, row)) for row in places])


def _sort_key(counts: Counter[str]) -> Callable[[str], Any] | None:
    numeric = all(label.lstrip("-").isascii() and label.lstrip("-").isdigit() for label in counts)
    return (lambda label: (int(label), label)) if numeric else None


def _refuse_non_label(counts: Counter[str], spec: DataSpec) -> None:
    rows = sum(counts.values())
    if len(counts) > max(50, rows * MAX_SHARE_OF_ROWS):
        what = f"column '{spec.label}' has {len(counts)} different values in {rows} rows: that is no label"
        raise RecipeError(what, where="data.label", hint="name the column with the classes")


def _check_stated(stated: Sequence[str], model_labels: Sequence[str] | None, trains: bool) -> None:
    repeated = sorted({label for label in stated if list(stated).count(label) > 1})
    if repeated:
        raise RecipeError(f"'{repeated[0]}' stands twice", where="data.labels")
    if model_labels is not None and not trains and list(stated) != list(model_labels):
        what = f"the order differs from the model's own: {_shown(model_labels)}"
        hint = "nothing trains, so the model's outputs keep their order; leave data.labels out"
        raise RecipeError(what, where="data.labels", hint=hint)


def _refuse_unknown(label: str, others: int, counts: Counter[str], order: list[str], spec: DataSpec) -> None:
    owner = "data.labels" if spec.labels is not None else "the model"
    more = f" (and {others - 1} more)" if others > 1 else ""
    what = f"label '{label}' ({counts[label]} rows){more} is not known to {owner}"
    hint = did_you_mean(label, order, "labels")
    if spec.labels is None:
        hint += "; to train other labels, state them in data.labels"
    raise RecipeError(what, where="data.label", hint=hint)


def _are_positions(counts: Counter[str], order: list[str]) -> bool:
    positions = {str(place) for place in range(len(order))}
    return set(counts) <= positions and set(counts).isdisjoint(order)


def _span(counts: Counter[str]) -> str:
    numbers = sorted(int(label) for label in counts)
    return f"{numbers[0]}..{numbers[-1]}"


def _shown(labels: Sequence[str]) -> str:
    return ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
