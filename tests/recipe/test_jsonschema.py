"""The JSON Schema names every field of every section, stage and method, and agrees with the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from edgeft.cli import main
from edgeft.recipe.explain import _section
from edgeft.recipe.jsonschema import DIALECT, REFERENCE, recipe_schema, stage_classes
from edgeft.recipe.schema import Recipe
from edgeft.stage import Stage


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return recipe_schema()


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and every section below it."""
    found = [model]
    for field in model.model_fields.values():
        below = _section(field.annotation)
        if below is not None and below is not Stage:
            found += sections(below)
    return found


def test_every_field_is_described(schema: dict[str, Any]) -> None:
    stages = [kind for kinds in stage_classes().values() for kind in kinds]
    checked = 0
    for model in [*sections(Recipe), *stages]:
        shown = schema if model is Recipe else schema["$defs"][model.__name__]
        assert set(shown["properties"]) == set(model.model_fields), model
        assert shown["additionalProperties"] is False
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"
            assert shown["properties"][name]["description"] == field.description
            checked += 1
    assert checked > 60


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    text = json.dumps(schema)
    wanted = {part.split('"')[0] for part in text.split(REFERENCE)[1:]}
    assert wanted == set(schema["$defs"])


def test_steps_take_each_stage_by_name(schema: dict[str, Any]) -> None:
    *forms, bare = schema["properties"]["steps"]["items"]["anyOf"]
    assert [list(form["properties"]) for form in forms] == [[name] for name in stage_classes()]
    assert all(form["required"] == list(form["properties"]) and not form["additionalProperties"] for form in forms)
    assert bare["enum"] == list(stage_classes())
    methods = {kind.model_fields["method"].default for kind in stage_classes()["finetune"]}
    assert methods == {"qlora", "lora", "full", "qat"}


def test_what_a_base_may_bring_is_not_required(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == DIALECT
    assert schema["anyOf"] == [
        {"required": ["extends"]},
        {"required": ["name", "model", "data", "targets", "gates"]},
    ]


def test_command_prints_and_writes(schema: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema
    assert main(["schema", "--output", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == schema
    assert main(["schema", "--output", str(tmp_path / "no" / "s.json")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
