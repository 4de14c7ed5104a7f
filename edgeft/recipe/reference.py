"""The recipe reference as Markdown, made from the same fields that check recipes: it cannot be out of date."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edgeft.device.profile import Device
from edgeft.gate import Gate
from edgeft.recipe import schema
from edgeft.recipe.jsonschema import stage_classes

HEAD = """# Recipe reference

Made by `edgeft schema --format markdown` from the types that check recipes; `edgeft schema` completes them in editors.
Unknown keys are errors. Paths are read from the file that states them. `edgeft:text/quickstart` names a shipped recipe.
"""
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The recipe", schema.Recipe),
    ("model", schema.Model),
    ("data", schema.Data),
    ("data.fractions", schema.SplitFractions),
    ("data.paths", schema.SplitPaths),
    ("data.expect", schema.Expect),
    ("preprocess", schema.Preprocess),
    ("serve", schema.Serve),
    ("targets", schema.Target),
    ("targets: search", schema.SearchKeys),
    ("targets: budget", schema.Budget),
    ("measure", schema.Measure),
    ("gates", Gate),
)


def render_reference() -> str:
    """The whole page; stages and methods are those installed."""
    parts = [HEAD]
    parts += [section(title, model) for title, model in SECTIONS]
    for name, kinds in stage_classes().items():
        for kind in kinds:
            method = kind.model_fields.get("method")
            title = f"steps: {name}" + (f", method: {method.default}" if method is not None and len(kinds) > 1 else "")
            parts.append(section(title, kind))
    parts.append(section("Device profiles (devices/*.yaml)", Device))
    return "\n".join(parts)


def section(title: str, model: type[BaseModel]) -> str:
    """A heading, the type's own sentence and its fields as a table."""
    summary = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    rows = [f"| `{name}` | {kind} | {default} | {text} |" for name, kind, default, text in fields(model)]
    return "\n".join([f"## {title}", "", summary, "", "| key | takes | default | |", "|---|---|---|---|", *rows, ""])


def fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """(key, type in words, default, description) of each field."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue  # never in a file
        yield name, _cell(words(field.annotation)), _cell(_default(field)), _cell(field.description or "")


def words(annotation: Any) -> str:
    """A type as a person would say it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(str(item) for item in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(words(item) for item in arguments if item is not type(None))
    if origin in (tuple, list) or (origin is not None and getattr(origin, "__name__", "") == "Sequence"):
        return f"list of {words(arguments[0])}" if arguments else "list"
    if origin is dict:
        return "mapping"
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return plain.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return (
            "see there"
            if isinstance(field.default_factory, type) and issubclass(field.default_factory, BaseModel)
            else ""
        )
    if field.default in (None, (), ""):
        return ""
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
