"""The recipes that come with edgeft, by name: `edgeft:text/quickstart`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from edgeft.errors import RecipeError
from edgeft.recipe.parse import read_yaml
from edgeft.recipe.problems import did_you_mean
from edgeft.recipe.tree import plain

PREFIX = "edgeft:"


@cache
def shipped_recipes() -> dict[str, Path]:
    """`text/quickstart` -> file, sorted; the package is found, not imported."""
    from importlib.util import find_spec

    spec = find_spec("edgeft_recipes")
    if spec is None or not spec.submodule_search_locations:
        return {}
    root = Path(next(iter(spec.submodule_search_locations)))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


def shipped_recipe(ref: str) -> Path:
    """File of `edgeft:text/quickstart`; the prefix may be left out. RecipeError names what is near."""
    known = shipped_recipes()
    name = ref.removeprefix(PREFIX)
    if name not in known:
        hint = did_you_mean(name, tuple(known), "shipped recipes")
        raise RecipeError(f"no shipped recipe is called '{name}'", hint=hint)
    return known[name]


def about(name: str) -> str:
    """The recipe's own one-line description."""
    entries = read_yaml(shipped_recipes()[name], PREFIX + name).entries
    return str(plain(entries["description"])) if "description" in entries else ""


def is_whole(name: str) -> bool:
    """Whether it can be built as it is: it states a model, or extends a recipe that may."""
    entries = read_yaml(shipped_recipes()[name], PREFIX + name).entries
    return "model" in entries or "extends" in entries
