"""Healing of networks over images: the augmentation and the Dice loss they were trained with go on after a cut."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.stages.prune import stage_for
from tests.stages.slices import Slices

pytestmark = pytest.mark.ml

NET = """import torch
def build(num_labels):
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(conv(1, 8, 3, padding=1), torch.nn.ReLU(), conv(8, num_labels, 3, padding=1))
"""
HEAL = {"method": "structured", "ratio": 0.5, "heal_steps": 2, "heal_batch_size": 4, "heal_learning_rate": 0.01}


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Slices:
    """Real slices of the MNI152 template at 48 x 24 pixels."""
    pytest.importorskip("nilearn")
    pytest.importorskip("torch_pruning")
    return Slices(tmp_path_factory.mktemp("slices") / "world", scanners=("plain",))


def prune(slices: Slices, model: Artifact, **options: Any) -> dict[str, Any]:
    """Facts of one pruning step."""
    stage = stage_for(HEAL)(**HEAL, **options)
    out = Path(tempfile.mkdtemp(prefix="pruned-", dir=slices.root))
    return dict(stage.run({"model": model}, out, slices.context("prune")))


def test_healing_sees_the_augmentation_and_the_dice_loss(slices: Slices) -> None:
    """Same network, same cut, same order of the rows: whatever differs in the first loss is what was asked for."""
    model = slices.code(NET)
    options: dict[str, dict[str, Any]] = {
        "plain": {}, "again": {}, "dice": {"heal_dice": 1.0}, "augment": {"heal_augment": {"shift": 0.3}},
    }  # fmt: skip
    losses = {name: first_loss(prune(slices, model, **given)) for name, given in options.items()}
    assert losses["plain"] == losses["again"]
    assert 0.1 < losses["dice"] - losses["plain"] < 1.0, "a Dice loss is between 0 and 1"
    assert losses["augment"] != losses["plain"]


def first_loss(facts: dict[str, Any]) -> float:
    """The training loss of the first step of healing."""
    point = next(point for point in facts["prune"]["heals"][0]["curve"] if point["loss"] is not None)
    return float(point["loss"])


@pytest.mark.parametrize(
    ("task", "options", "key"),
    [("text-classification", {"heal_augment": {"shift": 0.1}}, "heal_augment"),
     ("image-classification", {"heal_dice": 1.0}, "heal_dice")],
)  # fmt: skip
def test_what_the_task_has_no_use_for_is_told_by_the_plan(task: str, options: dict[str, Any], key: str) -> None:
    refusal = stage_for(HEAL)(**HEAL, **options).refusal(plugins.load("tasks", task)(), ())
    assert refusal is not None and refusal[0] == key and refusal[2] == f"leave {key} out"
    fitting = stage_for(HEAL)(**HEAL, heal_augment={"shift": 0.1}, heal_dice=1.0)
    assert fitting.refusal(plugins.load("tasks", "segmentation")(), ()) is None


@pytest.mark.parametrize("options", [{"heal_augment": {"shift": 0.1}}, {"heal_dice": 1.0}, {"heal_distil": True}])
def test_options_of_healing_want_a_healing(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} goes with heal_epochs or heal_steps"):
        stage_for(HEAL)(method="structured", ratio=0.5, **options)
