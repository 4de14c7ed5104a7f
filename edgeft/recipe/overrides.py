"""`--set finetune.rank=8`: one value of a recipe changed from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeft import plugins
from edgeft.errors import RecipeError
from edgeft.recipe.parse import parse_yaml
from edgeft.recipe.problems import did_you_mean
from edgeft.recipe.schema import Recipe
from edgeft.recipe.tree import Mark, Node, RecipePath, Source, plain, put

NOT_HERE = ("extends", "env")
SPELLINGS = {"distil": "distill"}
"""A step's other spelling -> its name."""
FIELDS = tuple(name for name in Recipe.model_fields if name not in NOT_HERE)


def apply_sets(tree: Node, sets: Sequence[str]) -> Node:
    """The tree with each `KEY=VALUE` put in, in order. RecipeError with `--set KEY` as its place."""
    tree = normalise_steps(tree)
    for text in sets:
        key, equals, value = text.partition("=")
        label = f"--set {key.strip()}"
        if not equals or not key.strip():
            raise RecipeError("needs KEY=VALUE", where=label.strip(), hint="for instance --set finetune.rank=8")
        source = Source(label, Path.cwd())
        new = replace(parse_yaml(value, source), key=Mark(source))
        tree = normalise_steps(put(tree, _address(tree, key.strip().split("."), label), new))
    return tree


def normalise_steps(tree: Node) -> Node:
    """`- merge` and `- merge:` become `- merge: {}`; other shapes stay for the check of steps to name."""
    steps = tree.entries.get("steps")
    if steps is None or not steps.items:
        return tree
    return put(tree, ("steps",), replace(steps, value=[_normal_step(step) for step in steps.items]))


def _normal_step(step: Node) -> Node:
    if isinstance(step.value, str):
        return Node({SPELLINGS.get(step.value, step.value): Node({}, step.mark, step.mark)}, step.mark)
    if len(step.entries) == 1:
        name, options = next(iter(step.entries.items()))
        name = SPELLINGS.get(name, name)
        return replace(step, value={name: replace(options, value={}) if options.value is None else options})
    return step


def _address(tree: Node, parts: list[str], label: str) -> RecipePath:
    """The path that the dotted words mean; every part but the last must be something that can have parts."""
    if "" in parts:
        raise RecipeError("an empty part between dots", where=label, hint="for instance targets.0.device=local-cpu")
    if parts[0] in NOT_HERE:
        raise RecipeError(f"'{parts[0]}' belongs in the recipe file", where=label)
    path, rest = _first(tree, parts, label)
    node: Node | None = tree
    for step in path:
        node = node.child(step) if node else None
    for part in rest:
        path, node = _next(node, path, part, label)
    return path


def _first(tree: Node, parts: list[str], label: str) -> tuple[RecipePath, list[str]]:
    """What a step's name, or the name after `steps`, stands for."""
    words, inside = (parts[1:], True) if parts[0] == "steps" else (parts, False)
    words = [SPELLINGS.get(word, word) for word in words[:1]] + words[1:]
    if not words or (parts[0] in FIELDS and not inside):
        return (), parts
    steps = tree.entries.get("steps")
    names = [_names(step) for step in steps.items] if steps else []
    word, rest = words[0], words[1:]
    if inside and word.isdecimal():
        place = _number(word, len(names))
        return (), parts if place is None or not rest else _with_stage(parts, names[place])
    matches = [i for i, own in enumerate(names) if own and own[-1] == word]
    matches = matches or [i for i, own in enumerate(names) if word in own]
    if len(matches) > 1:
        hint = f"address one by its id or its place: {', '.join(f'steps.{i}' for i in matches)}"
        raise RecipeError(f"{len(matches)} steps are called '{word}'", where=label, hint=hint)
    if matches:
        return ("steps", matches[0], names[matches[0]][0]), rest
    own_names = [own[-1] for own in names if own]
    if word in plugins.names("stages"):
        hint = f"its steps: {', '.join(own_names) or 'none'}"
        raise RecipeError(f"the recipe has no step '{word}'", where=label, hint=hint)
    known = own_names if inside else [*FIELDS, *own_names]
    raise RecipeError(f"unknown key '{word}'", where=label, hint=did_you_mean(word, known, "known keys"))


def _with_stage(parts: list[str], names: list[str]) -> list[str]:
    """`steps.0.rank` means `steps.0.finetune.rank`."""
    if not names or parts[2] == names[0]:
        return parts
    return [*parts[:2], names[0], *parts[2:]]


def _names(step: Node) -> list[str]:
    """[stage] or [stage, id] of a step; empty when it has another shape."""
    if len(step.entries) != 1:
        return []
    stage, options = next(iter(step.entries.items()))
    known = options.entries.get("id")
    return [stage] if known is None else [stage, str(plain(known))]


def _next(node: Node | None, path: RecipePath, part: str, label: str) -> tuple[RecipePath, Node | None]:
    if node is not None and isinstance(node.value, list):
        count = len(node.items)
        place = _number(part, count)
        if place is None:
            hint = f"it has {count}: 0 to {count - 1}" if count else "it is empty"
            raise RecipeError(f"'{part}' is not the number of an item", where=label, hint=hint)
        return (*path, place), node.items[place]
    if node is not None and node.value is not None and not isinstance(node.value, dict):
        raise RecipeError(f"'{path[-1]}' is a single value: nothing in it is called '{part}'", where=label)
    child = node.child(part) if node is not None else None
    return (*path, part), child


def _number(part: str, count: int) -> int | None:
    """The index a part stands for, None when it is none of `count` items."""
    if not part.isdecimal() or len(part) > 6:
        return None
    return int(part) if int(part) < count else None
