"""A recipe runs code of its own folder and no other, and that code's neighbours take no installed module's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.errors import RecipeError
from edgeft.recipe.load import load_recipe
from edgeft.usercode import check_function, load_function

RECIPE = """\
name: theirs
model: {model}
data: {data}
targets: [{{device: local-cpu, export: [onnx]}}]
gates: [{{metric: {metric}, at_least: 0.5{more}}}]
"""
MODEL = "{path: ./model, task: text-classification}"
DATA = "{source: csv, path: train.csv, text: text, label: label}"
CODE = "open(__file__ + '.ran', 'w')\ndef f(*a, **k): return []\n"


def in_data(spec: str) -> str:
    return RECIPE.format(
        model=MODEL,
        data=f"{{source: python, path: {json.dumps(spec)}, text: text, label: label}}",
        metric="accuracy",
        more="",
    )


def in_model(spec: str) -> str:
    model = f"{{code: {json.dumps(spec)}, initialise: true, task: text-classification, tokenizer: ./model}}"
    return RECIPE.format(model=model, data=DATA, metric="accuracy", more="")


def in_gate(spec: str) -> str:
    return RECIPE.format(model=MODEL, data=DATA, metric=json.dumps(spec), more=", at_worst: 1")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A recipe's folder with code in it, and code outside it."""
    folder = tmp_path / "theirs"
    (folder / "model").mkdir(parents=True)
    (folder / "train.csv").touch()
    (folder / "own.py").write_text(CODE)
    (tmp_path / "outside.py").write_text(CODE)
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    (folder / "linked").symlink_to(tmp_path)
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("rows.py", CODE)
    return folder


@pytest.mark.parametrize("field", [in_data, in_model, in_gate])
@pytest.mark.parametrize(
    "spec", ["../outside.py:f", "ABSOLUTE:f", "link.py:f", "linked/outside.py:f", "model/../../outside.py:f"]
)
def test_code_outside_the_recipes_folder_is_refused(theirs: Path, field: Callable[[str], str], spec: str) -> None:
    spec = spec.replace("ABSOLUTE", str(theirs.parent / "outside.py"))
    (theirs / "recipe.yaml").write_text(field(spec))
    with pytest.raises(RecipeError, match="lies outside the recipe's folder: its code is not run") as caught:
        load_recipe(theirs / "recipe.yaml")
    assert "EDGEFT_CODE=" in caught.value.hint
    assert not list(theirs.parent.rglob("*.ran"))


@pytest.mark.parametrize("field", [in_data, in_model, in_gate])
def test_a_zip_is_no_folder_of_code(theirs: Path, field: Callable[[str], str]) -> None:
    (theirs / "recipe.yaml").write_text(field("code.zip/rows.py:f"))
    with pytest.raises(RecipeError, match=r"no file 'code\.zip/rows\.py'"):
        load_recipe(theirs / "recipe.yaml")


@pytest.mark.parametrize("field", [in_data, in_model, in_gate])
def test_own_code_and_trusted_code_are_accepted(
    theirs: Path, field: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (theirs / "recipe.yaml").write_text(field("own.py:f"))
    load_recipe(theirs / "recipe.yaml")
    (theirs / "recipe.yaml").write_text(field("../outside.py:f"))
    monkeypatch.setenv("EDGEFT_CODE", os.pathsep.join(["/nowhere", str(theirs.parent)]))
    load_recipe(theirs / "recipe.yaml")


def test_a_recipe_cannot_choose_a_variable_that_leads_out(theirs: Path) -> None:
    (theirs / "recipe.yaml").write_text("env: [HOME]\n" + in_data("${HOME}/outside.py:f"))
    with pytest.raises(RecipeError, match="lies outside the recipe's folder"):
        load_recipe(theirs / "recipe.yaml", environ={"HOME": str(theirs.parent)})


def test_the_command_line_is_the_users_own_word(theirs: Path) -> None:
    (theirs / "recipe.yaml").write_text(in_data("own.py:f"))
    loaded = load_recipe(theirs / "recipe.yaml", [f"data.path={theirs.parent / 'outside.py'}:f"])
    assert str(loaded.recipe.data.path).endswith("outside.py:f")


def test_a_base_brings_the_code_of_its_own_folder(theirs: Path) -> None:
    (theirs / "base.yaml").write_text(in_data("own.py:f"))
    (theirs.parent / "mine.yaml").write_text("extends: theirs/base.yaml\nname: mine\n")
    load_recipe(theirs.parent / "mine.yaml")


@pytest.mark.parametrize("name", ["json", "numpy", "torch"])
def test_a_neighbour_named_as_an_installed_module_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("open(__file__ + '.ran', 'w')\n")
    (tmp_path / "rows.py").write_text(f"import {name}\ndef f(): return []\n")
    for look in (check_function, load_function):
        with pytest.raises(RecipeError, match=f"has the name of another module, {name}"):
            look(f"{tmp_path / 'rows.py'}:f")
    assert not list(tmp_path.glob("*.ran"))


def test_a_neighbour_that_is_not_imported_hides_nothing(tmp_path: Path) -> None:
    """A library that the user's code calls imports `wave` late; it has to get Python's own."""
    (tmp_path / "wave.py").write_text("open(__file__ + '.ran', 'w')\n")
    (tmp_path / "helper.py").write_text("VALUE = 7\n")
    (tmp_path / "rows.py").write_text(
        "import importlib, helper\ndef f(): return importlib.import_module('wa' + 've').__file__, helper.VALUE\n"
    )
    code = "import sys; from edgeft.usercode import *; s = sys.argv[1]; print(call(s, load_function(s)))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, f"{tmp_path / 'rows.py'}:f"], capture_output=True, text=True, check=True
    )
    assert str(tmp_path) not in done.stdout and "7" in done.stdout
    assert not list(tmp_path.glob("*.ran"))
