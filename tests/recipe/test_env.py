"""`${NAME}`: only declared names, typed after filling in, and paths from the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import RecipeError
from edgeft.recipe.load import load_recipe
from tests.recipe.conftest import Write
from tests.recipe.mistakes import GOOD


def recipe_with(env: str, **changes: str) -> str:
    text = f"env: {env}\n{GOOD}"
    for old, new in changes.items():
        text = text.replace({"length": "{batch: 1, length: 64}", "name": "name: demo", "model": "./model"}[old], new)
    return text


def test_plain_value_is_typed_and_quoted_stays_text(write: Write) -> None:
    path = write(text=recipe_with("[N]", length="\n  length: ${N}", name='name: "${N}"'))
    recipe = load_recipe(path, environ={"N": "32"}).recipe
    assert (recipe.serve.length, recipe.name) == (32, "32")


def test_default_is_used_when_unset_or_empty(write: Write) -> None:
    path = write(text=recipe_with("[N]", length="\n  length: ${N:-16}"))
    assert load_recipe(path, environ={}).recipe.serve.length == 16
    assert load_recipe(path, environ={"N": ""}).recipe.serve.length == 16
    assert load_recipe(path, environ={"N": "8"}).recipe.serve.length == 8


def test_escaped_reference_is_text(write: Write) -> None:
    path = write(text=GOOD.replace("name: demo", "name: demo\ndescription: costs $${N} $5 $$"))
    loaded = load_recipe(path, environ={})
    assert loaded.recipe.description == "costs ${N} $5 $$"
    assert load_recipe(write("again.yaml", loaded.resolved_yaml)).recipe.description == "costs ${N} $5 $$"


def test_undeclared_name_is_never_read(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=GOOD.replace("name: demo", "name: ${SECRET}")), environ={"SECRET": "hunter2"})
    assert "hunter2" not in caught.value.render()


def test_path_from_the_environment_starts_in_the_current_folder(
    write: Write, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("sub/demo.yaml", recipe_with("[M]", model='"${M}"').replace("train.csv", "../train.csv"))
    assert load_recipe(path, environ={"M": "./model"}).recipe.model.path == str(project / "model")


def test_default_path_starts_at_the_file(write: Write, project: Path) -> None:
    path = write("sub/demo.yaml", recipe_with("[M]", model='"${M:-../model}"').replace("train.csv", "../train.csv"))
    assert load_recipe(path, environ={}).recipe.model.path == str(project / "model")


def test_declarations_of_a_base_hold(write: Write) -> None:
    write("base.yaml", recipe_with("[N]", length="\n  length: ${N}"))
    path = write(text="name: ${K}\nenv: [K]\nextends: base.yaml\n")
    recipe = load_recipe(path, environ={"N": "8", "K": "kind"}).recipe
    assert (recipe.name, recipe.serve.length, recipe.env) == ("kind", 8, ("N", "K"))


@pytest.mark.parametrize("value", [".nan", "9" * 5000, "a\0b", "a\x1b[31m"])
def test_value_that_no_recipe_may_hold(write: Write, value: str) -> None:
    path = write(text=recipe_with("[N]", name="name: ${N}"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, environ={"N": value})
    assert caught.value.where == "demo.yaml:2:7 name"
    assert caught.value.hint == "check the environment variable"


@pytest.mark.parametrize("body", ["", "1A", "A B", "A-B", ":-x"])
def test_reference_that_is_no_name(write: Write, body: str) -> None:
    with pytest.raises(RecipeError, match="is not the name of an environment variable"):
        load_recipe(write(text=GOOD.replace("name: demo", f"name: '${{{body}}}'")))


def test_reference_inside_braces_needs_quotes(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=GOOD.replace("length: 64", "length: ${N}")))
    assert caught.value.where == "demo.yaml:4:28"
    assert "put ${...} in quotes" in caught.value.hint


def test_the_resolved_text_names_the_environment_and_shows_none_of_it(
    write: Write, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    secret = 'pa$${ss}"w\u00f6rd'
    for name in ("texts/train.csv", "up/texts/train.csv"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    environ = {"WORDS": secret, "D": str(project / "up") + "/", "N": "16"}
    text = recipe_with("[WORDS, D, N]", length="\n  length: ${N}").replace(
        "name: demo", "name: demo\ndescription: 'a ${WORDS} $${D} ${WORDS}'"
    )
    for data in ("${D}texts/train.csv", "${D}/../texts/train.csv"):
        loaded = load_recipe(write(text=text.replace("train.csv", f"'{data}'")), environ=environ)
        assert "pa$$" not in loaded.resolved_yaml and "ss}" not in loaded.resolved_yaml
        assert str(project) not in loaded.resolved_yaml
        assert "length: 16" in loaded.resolved_yaml
        again = load_recipe(write("other/again.yaml", loaded.resolved_yaml), environ=environ)
        assert again.recipe == loaded.recipe
        assert again.resolved_yaml == loaded.resolved_yaml
