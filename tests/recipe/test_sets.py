"""`--set`: addressing by name, id and place; new values; errors that name the option."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.errors import RecipeError
from edgeft.recipe.load import load_recipe
from edgeft.recipe.schema import Recipe
from tests.recipe.conftest import Write
from tests.recipe.mistakes import GOOD

TWO = GOOD.replace("  - merge\n", "  - merge\n  - finetune: {method: full, id: heal}\n")


def step(recipe: Recipe, index: int) -> Any:
    return recipe.steps[index]


@pytest.mark.parametrize("address", ["finetune.rank", "steps.finetune.rank", "steps.0.rank", "steps.0.finetune.rank"])
def test_step_is_addressed_by_name_or_place(write: Write, address: str) -> None:
    loaded = load_recipe(write(), [f"{address}=4"])
    assert step(loaded.recipe, 0).rank == 4
    assert loaded.where(("steps", 0, "rank")) == f"--set {address}"


def test_id_wins_over_name(write: Write) -> None:
    recipe = load_recipe(write(text=TWO), ["heal.epochs=1", "finetune.epochs=9"]).recipe
    assert (step(recipe, 0).epochs, step(recipe, 2).epochs) == (9, 1)


def test_values_are_yaml(write: Write) -> None:
    sets = ["targets.0.device=local-cpu", "data.labels=[a, b]", "merge.base=original", "seed=0x10", "data.group=area"]
    recipe = load_recipe(write(), [*sets, "data.group="]).recipe
    assert recipe.data.labels == ("a", "b")
    assert (step(recipe, 1).base, recipe.seed, recipe.data.group) == ("original", 16, None)


def test_section_that_the_file_does_not_have_is_made(write: Write) -> None:
    recipe = load_recipe(write(), ["measure.protocol=full", "data.options.delimiter=;"]).recipe
    assert recipe.measure.protocol == "full"
    assert recipe.data.options == {"delimiter": ";"}


def test_whole_lists_can_be_set(write: Write) -> None:
    recipe = load_recipe(write(), ["steps=[merge]", "merge.max_kl=0.5"]).recipe
    assert [stage.name for stage in recipe.steps] == ["merge"]
    assert step(recipe, 0).max_kl == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("finetune.rnak=8", "--set finetune.rnak: unknown key 'rnak' | did you mean 'rank'?"),
        ("finetune.rank=x", "--set finetune.rank: must be a whole number, got 'x' | rank: Rank"),
        ("finetnue.rank=8", "--set finetnue.rank: unknown key 'finetnue' | did you mean 'finetune'?"),
        ("serv.length=8", "--set serv.length: unknown key 'serv' | did you mean 'serve'?"),
        ("serve.lenght=8", "--set serve.lenght: unknown key 'lenght' | did you mean 'length'?"),
        ("data.fractoins.gate=0.2", "--set data.fractoins.gate: unknown key 'fractoins' | did you mean 'fractions'?"),
        ("gates.1.margin=0.1", "--set gates.1.margin: '1' is not the number of an item | it has 1: 0 to 0"),
        ("gates.x.margin=0.1", "--set gates.x.margin: 'x' is not the number of an item | it has 1: 0 to 0"),
        ("steps.9.rank=1", "--set steps.9.rank: '9' is not the number of an item | it has 2: 0 to 1"),
        ("seed.x=1", "--set seed.x: 'seed' is a single value: nothing in it is called 'x' | "),
        ("seed", "--set seed: needs KEY=VALUE | for instance"),
        ("=3", "--set: needs KEY=VALUE | for instance"),
        ("a..b=3", "--set a..b: an empty part between dots | "),
        ("extends=edgeft:text/base", "--set extends: 'extends' belongs in the recipe file | "),
        ("env=[HOME]", "--set env: 'env' belongs in the recipe file | "),
        ("seed=[", "--set seed: a value is missing before this | "),
        ("seed=.nan", "--set seed: .nan is not a finite number | "),
        ("model.path=./nowhere", "--set model.path: no folder './nowhere' | "),
        ("steps.merge.bse=x", "--set steps.merge.bse: unknown key 'bse' | did you mean 'base'?"),
        (f"gates.{'9' * 5000}.margin=1", "--set gates.9"),
    ],
)
def test_wrong_option_is_explained(write: Write, text: str, expected: str) -> None:
    text_of_recipe = GOOD.replace("name: demo", "name: demo\nseed: 1")
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=text_of_recipe), [text])
    assert f"{caught.value} | {caught.value.hint}".startswith(expected)
    assert caught.value.where.startswith("--set")


def test_ambiguous_step_is_explained(write: Write) -> None:
    text = TWO.replace("rank: 8", "id: first").replace("id: heal", "id: second")
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=text), ["finetune.epochs=1"])
    assert str(caught.value) == "--set finetune.epochs: 2 steps are called 'finetune'"
    assert caught.value.hint == "address one by its id or its place: steps.0, steps.2"


def test_step_that_the_recipe_does_not_have(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=GOOD.replace("  - merge\n", "")), ["merge.base=original"])
    assert str(caught.value) == "--set merge.base: the recipe has no step 'merge'"
    assert caught.value.hint == "its steps: finetune"
