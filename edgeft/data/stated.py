"""Splits the user states, by a column or by one path each: names understood, missing ones carved out, leaks refused."""

from __future__ import annotations

from collections.abc import Mapping

from edgeft.data.rows import SHOWN, Rows
from edgeft.data.source import Fractions, Warn
from edgeft.data.split import blocks_of, divide
from edgeft.errors import RecipeError, StepError
from edgeft.stage import SPLITS

ALIASES = {
    "train": "train", "training": "train",
    "validation": "validation", "val": "validation", "valid": "validation", "dev": "validation",
    "calibration": "calibration", "calib": "calibration",
    "search": "search",
    "gate": "gate", "test": "gate",
}  # fmt: skip
"""What a `split:` column may say, in any letter case. The test set is the sealed one: gate."""
SMALL_SHARE = 0.02
"""Share of a missing split whose fraction the recipe sets to 0."""


def by_column(rows: Rows) -> dict[str, list[int]]:
    """Split -> places of its rows; StepError naming rows whose split is none of the known names."""
    parts: dict[str, list[int]] = {}
    unknown: dict[str, list[str]] = {}
    for place, value in enumerate(rows.splits or []):
        name = ALIASES.get(value.lower())
        if name is None:
            unknown.setdefault(value, []).append(rows.ids[place])
        else:
            parts.setdefault(name, []).append(place)
    if unknown:
        value, ids = next(iter(unknown.items()))
        more = ", ..." if len(ids) > SHOWN else ""
        what = f"split '{value}' in rows {', '.join(ids[:SHOWN])}{more} is none of {', '.join(SPLITS)}"
        raise StepError(what, where=rows.where, hint="also understood: val, valid, dev (validation), test (gate)")
    return parts


def complete(
    rows: Rows, parts: Mapping[str, list[int]], fractions: Fractions, seed: int, reads: frozenset[str], warn: Warn
) -> dict[str, list[int]]:
    """Stated splits with the missing ones carved, in whole groups, out of train or validation (the larger).

    Carved shares are those of data.fractions, relative to the donor's own. Validation is carved only when a
    step reads it. Nothing is ever taken from gate. RecipeError when gate, train or a donor is missing.
    """
    parts = {name: places for name, places in parts.items() if places}
    if "gate" not in parts:
        raise RecipeError("no row is in the gate split", where="data.split", hint="call it gate or test")
    if "train" in reads and "train" not in parts:
        raise RecipeError(
            "steps train, but no row is in the train split", where="data.split", hint="or leave steps empty"
        )
    needed = ["calibration", "search", *(["validation"] if "validation" in reads else [])]
    missing = [name for name in needed if name not in parts]
    if not missing:
        return _in_order(parts)
    donors = [name for name in ("train", "validation") if name in parts]
    if not donors:
        what = f"split {' and '.join(missing)} is missing, and there is no train or validation to take it from"
        raise RecipeError(what, where="data", hint="state it; the gate set is sealed, nothing is taken from it")
    donor = max(donors, key=lambda name: len(parts[name]))
    given = parts[donor]
    shares = {name: getattr(fractions, name) or SMALL_SHARE for name in (donor, *missing)}
    own = rows.take(given)
    for name, blocks in divide(blocks_of(own), shares, seed).items():
        parts[name] = sorted(given[place] for block in blocks for place in block.rows)
    counts = ", ".join(f"{name} {len(parts[name])}" for name in missing)
    warn(f"not stated and therefore taken out of {donor} ({len(given)} rows): {counts}")
    return _in_order(parts)


def _in_order(parts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {name: parts[name] for name in SPLITS if name in parts}
