"""A recipe from its file to types: bases, overrides, environment, paths, then every field checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from edgeft.errors import RecipeError
from edgeft.recipe.dump import dump_recipe
from edgeft.recipe.explain import explain
from edgeft.recipe.extend import read_extended
from edgeft.recipe.interpolate import interpolate
from edgeft.recipe.names import check_names
from edgeft.recipe.overrides import apply_sets
from edgeft.recipe.paths import path_fields, resolve_paths
from edgeft.recipe.problems import Problem, Problems
from edgeft.recipe.schema import Recipe
from edgeft.recipe.shown import shown_texts
from edgeft.recipe.steps import build_steps
from edgeft.recipe.tree import Node, RecipePath, find, plain


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe that is valid, with the places its values came from.

    ref: what the user named. files: every file read, the named one first. resolved_yaml: the whole recipe with
    defaults and absolute paths; loading that text gives an equal recipe. Text from the environment is named, not shown.
    """

    recipe: Recipe
    ref: str
    files: tuple[Path, ...]
    resolved_yaml: str
    tree: Node = field(repr=False, compare=False)

    def where(self, path: RecipePath) -> str:
        """`demo.yaml:4:17 steps[0].prune.ratio`; a path whose value is a default gives the section's place."""
        return self._problem(path, "", "").where

    def error(self, path: RecipePath, what: str, hint: str = "") -> RecipeError:
        """An error at a path of the recipe such as ("gates", 0, "margin"), with an excerpt of the file.

        In ("steps", 0, "ratio") the step's name may be left out.
        """
        return self._problem(path, what, hint).error()

    def _problem(self, path: RecipePath, what: str, hint: str) -> Problem:
        if len(path) > 2 and path[0] == "steps" and isinstance(path[1], int) and path[1] < len(self.recipe.steps):
            name = self.recipe.steps[path[1]].name
            path = path if path[2] == name else (*path[:2], name, *path[2:])
        done, node = find(self.tree, path)
        whole = done == path and not isinstance(node.value, (dict, list))
        mark = node.mark if whole else node.key or node.mark
        return Problem(mark, path, what, hint)


def load_recipe(ref: str | Path, sets: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> LoadedRecipe:
    """Read and check a recipe file or a shipped recipe (`edgeft:text/quickstart`).

    sets: `KEY=VALUE` overrides. environ: where `${NAME}` is looked up, for names the recipe declares in `env:`.
    Raises RecipeError for the first mistake by place, the others listed in its hint.
    """
    tree, files = read_extended(ref)
    tree = apply_sets(tree, sets)
    problems = Problems()
    stated = tree
    tree = interpolate(tree, environ, problems)
    problems.stop()
    tree = resolve_paths(tree, problems)
    recipe = _validate(tree, problems)
    problems.stop()
    if recipe is None:
        raise RecipeError("the recipe is not valid", where=str(ref))
    shown = shown_texts(stated, tree, environ, path_fields(tree))
    return LoadedRecipe(recipe, os.fspath(ref), files, dump_recipe(recipe, shown), tree)


def _validate(tree: Node, problems: Problems) -> Recipe | None:
    """The recipe; None when problems were added."""
    check_names(tree, problems)
    steps = build_steps(tree, problems)
    values = {key: value for key, value in plain(tree).items() if key != "steps"}
    try:
        recipe = Recipe.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        explain(error, Recipe, tree, (), problems)
        return None
    return recipe.model_copy(update={"steps": steps})
