"""The recipe's JSON Schema (draft 2020-12): completion and checks in editors, every stage and method included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from edgeft import plugins
from edgeft.recipe.schema import Recipe
from edgeft.recipe.steps import stage_class
from edgeft.stage import Stage

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/$defs/"


def recipe_schema() -> dict[str, Any]:
    """The schema as JSON values. Stages come from the installed plug-ins; a broken one is a PluginError."""
    stages = stage_classes()
    models: list[type[BaseModel]] = [Recipe, *(kind for kinds in stages.values() for kind in kinds)]
    names, schema = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE + "{model}")
    definitions: dict[str, Any] = schema["$defs"]
    references = {model: names[model, "validation"]["$ref"] for model in models}
    root = definitions.pop(references[Recipe].removeprefix(REFERENCE))
    definitions.pop("Stage", None)
    root["properties"]["steps"]["items"] = {"anyOf": _step_forms(stages, references)}
    required = root.pop("required")
    # What a recipe leaves out may come from the ones it extends.
    root["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    return {"$schema": DIALECT, **root, "title": "edgeft recipe", "$defs": definitions}


def stage_classes() -> dict[str, tuple[type[Stage], ...]]:
    """Step name -> the classes its options may mean: one for each method of `finetune` and `prune`."""
    found: dict[str, tuple[type[Stage], ...]] = {}
    for name in plugins.names("stages"):
        if isinstance(plugins.load("stages", name), type):
            found[name] = (stage_class(name, {}),)
        else:
            found[name] = tuple(
                stage_class(name, {"method": method}) for method in plugins.names(plugins.METHODS[name])
            )
    return found


def _step_forms(
    stages: Mapping[str, tuple[type[Stage], ...]], references: Mapping[type[BaseModel], str]
) -> list[dict[str, Any]]:
    """`{name: {options}}` for each stage, or its bare name."""
    forms: list[dict[str, Any]] = []
    for name, kinds in stages.items():
        options = [{"$ref": references[kind]} for kind in kinds]
        value = {"anyOf": [*options, {"type": "null"}]}
        summary = (kinds[0].__doc__ or name).strip().splitlines()[0]
        if len(kinds) > 1:
            summary = f"{name}: `method` picks its form and with it the options."
        forms.append(
            {
                "type": "object",
                "description": summary,
                "properties": {name: value},
                "required": [name],
                "additionalProperties": False,
            }
        )
    forms.append({"enum": list(stages), "description": "A step with all its defaults."})
    return forms
