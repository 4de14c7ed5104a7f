"""What a released bundle is refused for before anything runs, at the gate that names it; no build is needed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeft.errors import EdgeftError, RecipeError
from edgeft.pipeline.judging import released
from edgeft.pipeline.judging.released import (
    Released,
    baseline_id,
    check_all_labels,
    open_released,
    released_id,
    released_spec,
)
from edgeft.recipe.load import LoadedRecipe, load_recipe
from tests.pipeline.test_gate_sizes import RECIPE

MANIFEST = {
    "status": "passed", "task": "text-classification", "runtime": "onnxruntime", "labels": ["help", "stop"],
    "inputs": {"input_ids": {}}, "model": "model.onnx",
}  # fmt: skip


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedRecipe:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/preprocess.json").write_text(json.dumps({"inputs": ["input_ids"]}))
    (tmp_path / "rows.csv").write_text("query,area\nhow?,help\n")
    gate = "metric: accuracy, at_least: 0.5}\n  - {metric: accuracy, no_worse_than: v1, margin: 0.02"
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(gate=gate))
    return load_recipe(str(tmp_path / "recipe.yaml"))


def opened(loaded: LoadedRecipe, labels: tuple[str, ...] | None = None, **changes: Any) -> dict[str, Released]:
    """With a manifest that says so too."""

    def opener(folder: Path) -> Any:
        (folder / "manifest.json").write_text(json.dumps({**MANIFEST, **changes}))
        return SimpleNamespace(folder=folder, manifest={**MANIFEST, **changes})

    return open_released(loaded, opener, labels)


def refusal(loaded: LoadedRecipe, **changes: Any) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        opened(loaded, **changes)
    assert caught.value.where.endswith("gates[1].no_worse_than")
    return caught.value


def test_what_can_be_compared_is_opened_and_answers_by_a_step_of_its_own(loaded: LoadedRecipe) -> None:
    plain, gate = loaded.recipe.gates
    first, second = opened(loaded), opened(loaded, made="later")
    assert list(first) == [gate.released]
    (one,), (other,) = first.values(), second.values()
    name = released_id(one, "gate")
    assert name != released_id(other, "gate") and name.startswith("released/v1-") and name.endswith("/gate")
    assert baseline_id(gate, first, "gate") == name and baseline_id(plain, first, "search") == "source/search"
    assert released_spec(loaded, one, "search").reads == ("search",)
    spec = released_spec(loaded, one, "gate")
    assert spec.reads == ("gate",) and spec.given["bundle"].digest == one.digest and "onnxruntime" in spec.tools


@pytest.mark.parametrize("status", ["failed", "warned", None])
def test_only_what_passed_is_shipped(loaded: LoadedRecipe, status: str | None) -> None:
    assert "did not pass its gates" in refusal(loaded, status=status).what


def test_labels_are_compared_in_their_order_and_again_once_the_data_are_read(loaded: LoadedRecipe) -> None:
    assert opened(loaded, labels=("help", "stop"))
    assert "data.labels in its order" in refusal(loaded, labels=("stop", "help")).hint
    assert "of the same labels" in refusal(loaded, labels=("help", "go")).hint
    found = opened(loaded)
    check_all_labels(loaded, found, ["help", "stop"])
    with pytest.raises(RecipeError, match="its labels are help, stop; this recipe's are help, go"):
        check_all_labels(loaded, found, ["help", "go"])


def test_its_runtime_must_be_here(loaded: LoadedRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "find_spec", lambda name: None)
    assert "onnxruntime, which that bundle's onnxruntime needs, is not installed" in refusal(loaded).what


def test_its_inputs_must_be_made_by_its_own_preprocessing(loaded: LoadedRecipe, tmp_path: Path) -> None:
    assert opened(loaded, inputs={"text": {}, "input_ids": {}}), "an artefact with its own preprocessing takes the text"
    assert "its input 'pixels' is none" in refusal(loaded, inputs={"input_ids": {}, "pixels": {}}).what
    for broken in ("{}", "no JSON"):
        (tmp_path / "v1/preprocess.json").write_text(broken)
        assert "preprocess.json cannot be read" in refusal(loaded).what
    (tmp_path / "v1/preprocess.json").unlink()
    assert "preprocess.json cannot be read" in refusal(loaded).what


def test_what_cannot_be_opened_is_told_at_its_gate(loaded: LoadedRecipe) -> None:
    def broken(folder: Path) -> Any:
        raise EdgeftError("model.onnx is damaged", hint="copy it again")

    for opener, says in ((broken, "model.onnx is damaged"), (None, "cannot be opened here")):
        with pytest.raises(RecipeError, match=says) as caught:
            open_released(loaded, opener, None)
        assert caught.value.where.endswith("gates[1].no_worse_than")
