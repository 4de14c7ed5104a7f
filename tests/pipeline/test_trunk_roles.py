"""Who teaches, what gates compare with, and what comes before what: the trunk of a recipe, planned and not run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import RecipeError
from edgeft.pipeline.given.inputs import resolve_inputs
from edgeft.pipeline.steps.trunk import plan_trunk
from edgeft.recipe.load import load_recipe
from edgeft.store import Store
from tests.pipeline.conftest import RECIPE

pytestmark = pytest.mark.ml

STEP = "  - finetune: {method: lora, epochs: 2, batch_size: 16, learning_rate: 0.01, eval_steps: 10, checkpoint_steps: 5}\n"


def trunk(folder: Path, tiny_bert: Path, text_csv: Path, steps: str) -> Any:
    text = RECIPE.format(model=tiny_bert, data=text_csv, method="lora")
    assert STEP in text
    (folder / "recipe.yaml").write_text(text.replace(STEP, steps))
    store, loaded = Store(), load_recipe(folder / "recipe.yaml", (), os.environ)
    return plan_trunk(loaded, resolve_inputs(loaded, store, offline=True), store)


def roles(planned: Any, step: str) -> dict[str, str]:
    return next(dict(spec.needs) for spec in planned.specs if spec.id == step)


def test_everything_in_one_recipe(tmp_path: Path, tiny_bert: Path, text_csv: Path) -> None:
    """Fine-tune, prune, distil, train under rounding: each starts where the last ended, all answer to the first."""
    steps = STEP + (
        "  - prune: {method: depth, drop: 1}\n"
        "  - distil: {max_steps: 4}\n"
        "  - finetune: {id: rounded, method: qat, max_steps: 4}\n"
    )
    planned = trunk(tmp_path, tiny_bert, text_csv, steps)
    assert [spec.id for spec in planned.specs] == [
        "data",
        "prepare",
        "finetune",
        "merge",
        "prune",
        "distill",
        "rounded",
    ]
    assert planned.source["adapter"] == "finetune" and planned.model == "rounded"
    for step, before in (("distill", "prune"), ("rounded", "distill")):
        needs = roles(planned, step)
        assert needs["model"] == before and needs["teacher_adapter"] == "finetune"
        given = next(spec.given for spec in planned.specs if spec.id == step)
        assert given["teacher"].path == tiny_bert, "the base the adapter was trained on"


def test_a_whole_fine_tuned_model_teaches_itself(tmp_path: Path, tiny_bert: Path, text_csv: Path) -> None:
    steps = "  - finetune: {method: full, max_steps: 4}\n  - finetune: {id: rounded, method: qat, max_steps: 4}\n"
    planned = trunk(tmp_path, tiny_bert, text_csv, steps)
    assert planned.source == {"model": "finetune"} and planned.model == "rounded"
    assert roles(planned, "rounded") == {"model": "finetune", "teacher": "finetune", "prepared": "prepare"}


def test_rounding_comes_after_fine_tuning(tmp_path: Path, tiny_bert: Path, text_csv: Path) -> None:
    with pytest.raises(RecipeError, match="finetune needs a fine-tuned teacher, and nothing is fine-tuned"):
        trunk(tmp_path, tiny_bert, text_csv, "  - finetune: {method: qat, max_steps: 4}\n")


SPARSE = "  - finetune: {method: full, max_steps: 4}\n  - prune: {method: magnitude, ratio: 0.5}\n"


@pytest.mark.parametrize("step", ["method: full", "method: qat"])
def test_zeros_are_kept_by_what_trains_later(tmp_path: Path, tiny_bert: Path, text_csv: Path, step: str) -> None:
    planned = trunk(tmp_path, tiny_bert, text_csv, SPARSE + f"  - finetune: {{id: later, {step}, max_steps: 4}}\n")
    told = {spec.id: spec.config.get("keep_zeros") for spec in planned.specs}
    assert told["later"] is True and told["finetune"] is False and told["prune"] is False


def test_adapters_over_zeros_are_refused_unless_allowed(tmp_path: Path, tiny_bert: Path, text_csv: Path) -> None:
    lora = "  - finetune: {id: later, method: lora, max_steps: 4%s}\n"
    with pytest.raises(RecipeError, match="would fill the zeros") as caught:
        trunk(tmp_path, tiny_bert, text_csv, SPARSE + lora % "")
    assert "method: full" in caught.value.hint and "recipe.yaml:" in caught.value.where
    last = "  - finetune: {id: last, method: full, max_steps: 4}\n"
    planned = trunk(tmp_path, tiny_bert, text_csv, SPARSE + lora % ", keep_zeros: false" + last)
    told = {spec.id: spec.config.get("keep_zeros") for spec in planned.specs}
    assert told["later"] is False and told["last"] is False, "there are none left to keep"


def test_each_adapter_is_merged_by_a_step_of_its_own(tmp_path: Path, tiny_bert: Path, text_csv: Path) -> None:
    steps = STEP + "  - finetune: {id: again, method: lora, max_steps: 4}\n"
    planned = trunk(tmp_path, tiny_bert, text_csv, steps)
    first = [spec.id for spec in planned.specs[2:]]
    assert first == ["again/foreseen", "finetune", "merge", "again", "merge-again"], (
        "layers are looked up before training"
    )
    found = roles(planned, "merge-again")
    assert (found["model"], found["base"]) == ("again", "merge")
    assert planned.source == {"base": "merge", "adapter": "again"} and planned.model == "merge-again"
