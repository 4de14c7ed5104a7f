"""Path fields: where they start, what must be there, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest

from edgeft.errors import RecipeError
from edgeft.recipe.load import load_recipe
from edgeft.recipe.paths import FIELDS, PICKLES, RESOLVERS, Kind
from edgeft.recipe.schema import Recipe
from tests.recipe.conftest import Write
from tests.recipe.mistakes import GOOD

CODE = "code: 'net.py:build', weights: w.safetensors, tokenizer: ./model"


def with_model(text: str) -> str:
    return GOOD.replace("path: ./model", text)


def test_paths_become_absolute(write: Write, project: Path) -> None:
    model = load_recipe(write(text=with_model(CODE))).recipe.model
    assert model.code == f"{project / 'net.py'}:build"
    assert model.weights == str(project / "w.safetensors")
    assert model.tokenizer == str(project / "model")


def test_existing_folder_wins_over_hub_id(write: Write, project: Path) -> None:
    assert load_recipe(write(text=with_model("path: org/name"))).recipe.model.path == "org/name"
    (project / "org" / "name").mkdir(parents=True)
    assert load_recipe("demo.yaml").recipe.model.path == str(project / "org" / "name")


def test_home_folder(write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    assert load_recipe(write(text=with_model("path: ~/model"))).recipe.model.path == str(project / "model")
    with pytest.raises(RecipeError, match="the home folder in '~nobody-here/x' is not known"):
        load_recipe(write(text=with_model("path: ~nobody-here/x")))


def test_package_is_found_but_not_imported(write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = project / "lib" / "somemodel"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(project / "lib"))
    recipe = load_recipe(write(text=with_model("path: 'package:somemodel/weights'"))).recipe
    assert recipe.model.path == str(package / "weights")
    assert "somemodel" not in sys.modules


def test_package_path_cannot_leave_through_a_link(write: Write, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = project / "lib" / "somemodel"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "out").symlink_to(project)
    monkeypatch.syspath_prepend(str(project / "lib"))
    with pytest.raises(RecipeError, match="leads out of the package somemodel"):
        load_recipe(write(text=with_model("path: 'package:somemodel/out'")))


@pytest.mark.parametrize("suffix", sorted(PICKLES))
@pytest.mark.parametrize(
    "form",
    [
        "path: x{}",
        "path: ./model, adapter: x{}",
        "onnx: x{}",
        "code: 'net.py:build', weights: x{}",
        "path: ./model, tokenizer: x{}",
    ],
)
def test_pickles_are_refused_with_the_way_out(write: Write, project: Path, form: str, suffix: str) -> None:
    (project / f"x{suffix}").touch()
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=with_model(form.format(suffix))))
    assert caught.value.what == f"x{suffix} is a pickle, which can run code when it is opened"
    assert caught.value.hint.startswith(f"`edgeft convert x{suffix}` writes safetensors")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("source: python, path: 'net.py:rows'", "net.py:rows"),
        ("source: python, path: net.py", None),
        ("source: huggingface, path: org/set, revision: abc", "org/set"),
        ("source: huggingface, path: ./model", "model"),
        ("source: image-folder, path: model", "model"),
        ("source: image-folder, path: train.csv", None),
        ("source: jsonl, path: model", "model"),
    ],
)
def test_data_path_follows_its_source(write: Write, project: Path, data: str, expected: str | None) -> None:
    path = write(text=GOOD.replace("source: csv, path: train.csv", data))
    if expected is None:
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        assert caught.value.where.endswith("data.path")
    else:
        found = load_recipe(path).recipe.data.path
        assert found == (expected if expected == "org/set" else str(project / expected))


def test_device_file_and_the_gate_that_names_it_are_one(write: Write, project: Path) -> None:
    (project / "mine.yaml").touch()
    text = GOOD.replace("device: local-cpu", "device: mine.yaml").replace(
        "margin: 0.02", "margin: 0.02, device: mine.yaml"
    )
    recipe = load_recipe(write(text=text)).recipe
    assert recipe.targets[0].device == recipe.gates[0].device == str(project / "mine.yaml")


def test_every_kind_has_a_resolver_and_every_field_exists() -> None:
    assert set(RESOLVERS) == set(get_args(Kind)) == {kind for _, kind in FIELDS}
    for path, _ in FIELDS:
        assert path[0] in Recipe.model_fields


@pytest.mark.parametrize("value", ["a\\nb", "x/" * 3000, "", " "])
def test_odd_paths_are_errors(write: Write, value: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=GOOD.replace("train.csv", f'"{value}"')))
    assert caught.value.where == "demo.yaml:3:27 data.path"
