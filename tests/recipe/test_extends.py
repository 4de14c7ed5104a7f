"""`extends`: what is merged, what is replaced, where errors point, and chains that go wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import RecipeError
from edgeft.recipe.load import load_recipe
from tests.recipe.conftest import Write
from tests.recipe.mistakes import GOOD


def test_mappings_merge_and_lists_are_replaced(write: Write) -> None:
    write("base.yaml")
    path = write(text="name: child\nextends: base.yaml\nserve: {length: 32}\nsteps: []\ndata: {label: area}\n")
    recipe = load_recipe(path).recipe
    assert (recipe.name, recipe.serve.batch, recipe.serve.length) == ("child", 1, 32)
    assert recipe.steps == ()
    assert (recipe.data.source, recipe.data.label) == ("csv", "area")


def test_chain_across_folders_resolves_each_path_from_its_own_file(write: Write, project: Path) -> None:
    write("a/base.yaml", GOOD.replace("./model", "../model").replace("train.csv", "rows.csv"))
    write("a/rows.csv", "")
    write("b/middle.yaml", "name: middle\nextends: ../a/base.yaml\nmodel: {adapter: ../adapter}\n")
    loaded = load_recipe(write(text="name: top\nextends: ./b/middle.yaml\n"))
    assert Path(loaded.recipe.model.path or "") == project / "model"
    assert Path(loaded.recipe.data.path or "") == project / "a" / "rows.csv"
    assert Path(loaded.recipe.model.adapter or "") == project / "adapter"
    assert [path.name for path in loaded.files] == ["demo.yaml", "middle.yaml", "base.yaml"]


def test_of_several_bases_the_later_wins(write: Write) -> None:
    write("base.yaml")
    write("small.yaml", "serve: {length: 16}\nseed: 3\n")
    recipe = load_recipe(write(text="name: both\nextends: [base.yaml, small.yaml]\nseed: 5\n")).recipe
    assert (recipe.serve.length, recipe.seed) == (16, 5)


def test_error_in_a_base_points_at_the_base(write: Write) -> None:
    write("base.yaml", GOOD.replace("length: 64", "length: 0"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text="name: child\nextends: base.yaml\n"))
    assert caught.value.where == "base.yaml:4:27 serve.length"
    assert "length: 0" in caught.value.excerpt


def test_a_conflict_with_what_is_inherited_says_how_to_remove_it(write: Write) -> None:
    write("base.yaml")
    paths = "data: {paths: {search: train.csv, gate: train.csv}}\n"
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=f"name: child\nextends: base.yaml\n{paths}"))
    assert caught.value.what == "give path or paths, not both"
    assert caught.value.hint == "'source' comes from base.yaml; `source: null` removes it" or (
        caught.value.hint == "'path' comes from base.yaml; `path: null` removes it"
    )
    fixed = write(text="name: child\nextends: base.yaml\n" + paths.replace("{paths", "{path: null, paths"))
    assert load_recipe(fixed).recipe.data.path is None


def test_name_is_not_inherited_by_a_recipe_that_changes_something(write: Write) -> None:
    write("base.yaml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text="extends: base.yaml\nseed: 3\n"))
    assert str(caught.value) == "demo.yaml:1:1: 'name' is missing"
    assert load_recipe(write(text="extends: base.yaml\n")).recipe.name == "demo"


def test_circle_is_shown(write: Write) -> None:
    write("a.yaml", "name: a\nextends: b.yaml\n")
    write("b.yaml", "name: b\nextends: c.yaml\n")
    write("c.yaml", "name: c\nextends: [a.yaml]\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("a.yaml")
    assert caught.value.where == "c.yaml:2:11 extends"
    assert caught.value.what == "recipes that extend each other in a circle: a.yaml -> b.yaml -> c.yaml -> a.yaml"


def test_recipe_that_extends_itself_through_a_link(write: Write, project: Path) -> None:
    write("a.yaml", "name: a\nextends: link.yaml\n")
    (project / "link.yaml").symlink_to(project / "a.yaml")
    with pytest.raises(RecipeError, match=r"circle: a\.yaml -> link\.yaml"):
        load_recipe("a.yaml")


def test_fan_out_is_limited(write: Write) -> None:
    for level in range(8):
        write(f"l{level}.yaml", f"extends: [l{level + 1}.yaml, l{level + 1}.yaml]\n")
    write("l8.yaml")
    with pytest.raises(RecipeError, match="more than 64 files are read through `extends`"):
        load_recipe("l0.yaml")


def test_shipped_base_by_name(write: Write) -> None:
    text = "name: mine\nextends: edgeft:text/base\nmodel: {path: ./model}\ndata: {source: csv, path: train.csv}\n"
    loaded = load_recipe(write(text=text))
    assert loaded.recipe.seed == 7
    assert loaded.where(("seed",)).startswith("edgeft:text/base:")


def test_base_alone_is_no_recipe() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("edgeft:text/base")
    assert caught.value.what == "'name' is missing"
    assert "'model' is missing" in caught.value.hint
