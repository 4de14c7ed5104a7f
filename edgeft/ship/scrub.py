"""A bundle leaves the house: folders of the building machine are replaced by names in all that is said in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Recipe
from edgeft.record import RunRecord

Places = Mapping[str, str]
"""What a text may hold -> what stands for it, longest first."""

SECRET = 4
"""A value from the environment that is shorter says nothing, and would be found everywhere."""


def places_of(loaded: LoadedRecipe, store: Path) -> dict[str, str]:
    """Absolute paths that the recipe names, its files, the store, the home folder, values of its `env` variables."""
    found = {str(Path.home()): "~", str(store): "STORE"}
    found |= {value: f"${{{name}}}" for name in loaded.recipe.env if len(value := os.environ.get(name, "")) >= SECRET}
    parts = [part.model_dump(mode="json") for part in (loaded.recipe, *loaded.recipe.steps)]
    for value in (*_strings(parts), *map(str, loaded.files), loaded.ref):
        if Path(value).is_absolute():
            found[value] = f"./{Path(value).name}"
    found.pop("/", None)
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))


def scrub(value: Any, places: Places) -> Any:
    """The same JSON or text without those places."""
    if isinstance(value, str):
        for place, name in places.items():
            value = value.replace(place, name)
        return value
    if isinstance(value, Mapping):
        return {scrub(key, places): scrub(item, places) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item, places) for item in value]
    return value


def scrub_record(record: RunRecord, places: Places, recipe: Recipe) -> RunRecord:
    """The record as a receiver may read it; without pictures of cases where no row may be shown."""
    found = RunRecord.model_validate(scrub(record.model_dump(mode="json"), places))
    if recipe.bundle.golden_rows:
        return found
    return found.model_copy(
        update={
            "targets": [target.model_copy(update={"examples": []}) for target in found.targets],
            "preprocessing": [row.model_copy(update={"pair": None}) for row in found.preprocessing],
        }
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
