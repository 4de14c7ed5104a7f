"""Names in a recipe that stand for plug-ins: task, data source with its options, exporters."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError

from edgeft import plugins
from edgeft.errors import EdgeftError
from edgeft.recipe.explain import explain
from edgeft.recipe.problems import Problems, did_you_mean
from edgeft.recipe.tree import Node, RecipePath, find, plain


def check_names(tree: Node, problems: Problems) -> None:
    """Add a problem for each name that no installed plug-in has; check the options of the data source."""
    for path, group, noun in _named(tree):
        done, node = find(tree, path)
        if done != path or not isinstance(node.value, str):
            continue
        known = plugins.names(group)
        if node.value not in known:
            problems.add(node.mark, path, f"unknown {noun} '{node.value}'", did_you_mean(node.value, known, f"{noun}s"))
        elif group == "data":
            _check_options(tree, node.value, problems)


def _named(tree: Node) -> Iterator[tuple[RecipePath, str, str]]:
    yield ("model", "task"), "tasks", "task"
    yield ("data", "source"), "data", "data source"
    targets = tree.entries.get("targets")
    for index, target in enumerate(targets.items if targets else []):
        exports = target.entries.get("export")
        for place in range(len(exports.items) if exports else 0):
            yield ("targets", index, "export", place), "exporters", "exporter"


def _check_options(tree: Node, source: str, problems: Problems) -> None:
    path: RecipePath = ("data", "options")
    done, node = find(tree, path)
    if done != path or not isinstance(node.value, dict):
        return
    try:
        kind = plugins.load("data", source)
    except EdgeftError as error:
        problems.add(node.mark, ("data", "source"), error.what, error.hint)
        return
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return
    try:
        kind.model_validate_json(json.dumps(plain(node)))
    except ValidationError as error:
        explain(error, kind, tree, path, problems)
