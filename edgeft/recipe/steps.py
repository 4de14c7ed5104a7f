"""`steps:` to stages: each `- name: {options}` becomes the typed stage that the plug-in of that name gives."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from edgeft import plugins
from edgeft.errors import EdgeftError
from edgeft.recipe.explain import explain
from edgeft.recipe.problems import Problems, did_you_mean
from edgeft.recipe.tree import Node, RecipePath, plain
from edgeft.stage import Stage


def build_steps(tree: Node, problems: Problems) -> tuple[Stage, ...]:
    """Stages in order; what cannot be one is added to problems."""
    node = tree.entries.get("steps")
    if node is None:
        return ()
    if not isinstance(node.value, list):
        problems.add(
            node.mark,
            ("steps",),
            "must be a list of steps",
            "begin each with '- ', for instance `- finetune: {method: qlora}`",
        )
        return ()
    stages = []
    for index, item in enumerate(node.items):
        stage = _build(tree, index, item, problems)
        if stage is not None:
            stages.append((index, item, stage))
    _check_names(stages, problems)
    return tuple(stage for _, _, stage in stages)


def stage_class(name: str, options: dict[str, Any]) -> type[Stage]:
    """Class of the stage; `finetune` and `prune` have one for each method. PluginError where there is none."""
    found = plugins.load("stages", name)
    kind: type[Stage] = found if isinstance(found, type) else found(options)
    return kind


def _build(tree: Node, index: int, item: Node, problems: Problems) -> Stage | None:
    path: RecipePath = ("steps", index)
    if len(item.entries) != 1:
        what, hint = _shape(item)
        problems.add(item.mark, path, what, hint)
        return None
    name, options = next(iter(item.entries.items()))
    path = (*path, name)
    if not isinstance(options.value, dict):
        problems.add(
            options.mark, path, "its options must be a mapping of keys", f"for instance `- {name}: {{id: first}}`"
        )
        return None
    if name not in plugins.names("stages"):
        problems.add(options.key or item.mark, ("steps", index), f"unknown step '{name}'", _step_hint(name))
        return None
    method = options.entries.get("method")
    group = plugins.METHODS.get(name)
    if group and method is not None and method.value not in plugins.names(group):
        hint = did_you_mean(str(plain(method)), plugins.names(group), "methods")
        problems.add(method.mark, (*path, "method"), f"unknown method '{plain(method)}'", hint)
        return None
    return _validate(tree, path, options, problems)


def _validate(tree: Node, path: RecipePath, options: Node, problems: Problems) -> Stage | None:
    values = plain(options)
    try:
        kind = stage_class(str(path[-1]), values)
    except EdgeftError as error:
        problems.add(options.key or options.mark, path, error.what, error.hint)
        return None
    try:
        return kind.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        explain(error, kind, tree, path, problems)
        return None


def _shape(item: Node) -> tuple[str, str]:
    if not item.entries:
        return "a step is a name with its options", "for instance `- finetune: {method: qlora}`"
    names = list(item.entries)
    shown = ", ".join(names[:4])
    if names[0] in plugins.names("stages"):
        return f"a step has one key, this has {shown}", f"indent what belongs to {names[0]} further than `{names[0]}:`"
    return f"a step has one key, its name; this has {shown}", "for instance `- finetune: {method: qlora}`"


def _step_hint(name: str) -> str:
    for step, group in plugins.METHODS.items():
        if name in plugins.names(group):
            return f"{name} is a method of {step}: `- {step}: {{method: {name}}}`"
    return did_you_mean(name, plugins.names("stages"), "steps")


def _check_names(stages: list[tuple[int, Node, Stage]], problems: Problems) -> None:
    seen: dict[str, int] = {}
    for index, item, stage in stages:
        step, options = next(iter(item.entries.items()))
        name = stage.id or step
        if name in seen:
            what = f"two steps are called '{name}', this and steps[{seen[name]}]"
            problems.add(
                options.key or item.mark, ("steps", index), what, f"give one an id: `- {step}: {{id: second}}`"
            )
        seen.setdefault(name, index)
