"""A gate finds its target by type, by unit or by file; one that names no target or metric is told the near one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.cli.plan import answer_notes
from edgeft.errors import RecipeError
from edgeft.pipeline.checks.gate_checks import check_gates
from edgeft.pipeline.checks.gate_names import name_gates
from edgeft.pipeline.checks.preflight import check_recipe, load_devices
from edgeft.recipe.load import LoadedRecipe, load_recipe
from edgeft.tasks.segmentation import Segmentation
from edgeft.tasks.text_classification import TextClassification

RECIPE = """\
name: tiny
model: {{path: {folder}, task: text-classification}}
data: {{source: csv, path: {folder}/train.csv, text: text, label: label}}
steps:
  - finetune: {{method: lora}}
targets:
  - {{device: {target}, export: [onnx]}}
gates:
  - {{metric: {metric}, at_least: 0.5}}
  - {{metric: artifact_mb, at_most: 25, device: {gate}}}
"""


@pytest.fixture(autouse=True)
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One Raspberry Pi of the user's own."""
    monkeypatch.setenv("EDGEFT_UNITS", str(tmp_path / "units.yaml"))
    (tmp_path / "units.yaml").write_text("kitchen-pi: {type: raspberry-pi-5, host: pi@kitchen.local}\n")
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    (tmp_path / "board.yaml").write_text("name: board\n")


def load(folder: Path, target: str, gate: str, metric: str = "accuracy") -> LoadedRecipe:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(folder=folder, target=target, gate=gate, metric=metric))
    return load_recipe(path)


@pytest.mark.parametrize(
    ("target", "gate", "name"),
    [
        ("raspberry-pi-5", "raspberry-pi-5", "raspberry-pi-5"),
        ("kitchen-pi", "kitchen-pi", "raspberry-pi-5"),
        ("kitchen-pi", "raspberry-pi-5", "raspberry-pi-5"),
        ("board.yaml", "board", "board"),
        ("board.yaml", "board.yaml", "board"),
    ],
)
def test_a_gate_finds_its_target(tmp_path: Path, target: str, gate: str, name: str) -> None:
    loaded = load(tmp_path, target, gate)
    devices = load_devices(loaded)
    named = name_gates(loaded, devices)
    assert [item.device for item in named.recipe.gates] == [None, name]
    check_recipe(named, devices, TextClassification())


@pytest.mark.parametrize(
    ("target", "gate", "words"),
    [
        ("raspberry-pi-5", "kitchen-pi", "it is your unit, and the target is its type, raspberry-pi-5"),
        ("local-cpu", "local-cp", "did you mean 'local-cpu'?"),
        ("local-cpu", "kitchen-pi", "targets: local-cpu"),
    ],
)
def test_a_gate_on_no_target_is_told_what_there_is(tmp_path: Path, target: str, gate: str, words: str) -> None:
    loaded = load(tmp_path, target, gate)
    with pytest.raises(RecipeError) as caught:
        name_gates(loaded, load_devices(loaded))
    assert words in caught.value.render() and "recipe.yaml:10:" in caught.value.render()


def test_a_misspelt_metric_is_told_the_near_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, "local-cpu", "local-cpu", "acuracy")
    with pytest.raises(RecipeError, match="has no metric 'acuracy'") as caught:
        check_recipe(loaded, load_devices(loaded), TextClassification())
    assert "did you mean 'accuracy'?" in caught.value.render()


def test_an_own_metric_of_masks_is_refused_before_the_gate_set(tmp_path: Path) -> None:
    """Of masks only classes are kept: the function would have been given logits that are not there."""
    (tmp_path / "score.py").write_text("def mean(logits, labels, rows):\n    return 0.5\n")
    loaded = load(tmp_path, "local-cpu", "local-cpu", "score.py:mean, at_worst: 1")
    with pytest.raises(RecipeError, match="of segmentation only classes are kept") as caught:
        check_gates(loaded, load_devices(loaded), Segmentation())
    assert "gate mean_dice, " in caught.value.render()


def test_a_gate_on_the_likeliest_label_is_told_that_the_bundle_answers_by_a_threshold(tmp_path: Path) -> None:
    frozen = "sensitivity_b, at_specificity: 0.9"
    assert list(answer_notes(load(tmp_path, "local-cpu", "local-cpu"))) == []
    assert list(answer_notes(load(tmp_path, "local-cpu", "local-cpu", frozen))) == []
    both = load(tmp_path, "local-cpu", "local-cpu", f"{frozen}, at_least: 0.4}}\n  - {{metric: accuracy")
    (note,) = answer_notes(both)
    assert "accuracy is of the likeliest label, the bundle will answer 'b' by a frozen threshold" in note
