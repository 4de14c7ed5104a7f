"""A loss that is not a number stops the run and leaves its batch behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from tests.stages.world import World

pytestmark = pytest.mark.ml


def kept_batch(world: World, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folder = world.root / "scratch" / name / "nan-batch"
    with np.load(folder / "batch.npz", allow_pickle=False) as arrays:
        return json.loads((folder / "ids.json").read_text()), dict(arrays)


def test_a_learning_rate_out_of_this_world(world: World) -> None:
    options = {"method": "full", "max_steps": 20, "batch_size": 8, "learning_rate": 1e30, "warmup": 0.0, "clip": 0}
    with pytest.raises(StepError, match=r"at training step \d+") as caught:
        world.run(options, "exploded")
    assert "learning_rate" in caught.value.hint
    about, arrays = kept_batch(world, "exploded")
    assert len(about["ids"]) == 8 and all(name.startswith("train-") for name in about["ids"])
    assert f"step {about['step']}" in caught.value.what
    assert arrays["input_ids"].shape[0] == arrays["labels"].shape[0] == 8


def test_a_poisoned_weight_stops_the_first_step(world: World, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = world.root / "base"
    state = load_file(folder / "model.safetensors")
    state["encoder.layer.0.output.dense.bias"][0] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StepError, match="the loss is nan at training step 1"):
        world.run({"method": "qlora", "max_steps": 20, "batch_size": 8}, "poisoned")
    about, _ = kept_batch(world, "poisoned")
    assert about["step"] == 1


def test_a_gradient_that_overflows_is_caught_before_the_weights(world: World) -> None:
    """A finite loss with an infinite gradient would turn every weight to NaN at this step and show at the next."""
    import torch

    from edgeft.models.load import load_model
    from edgeft.stages.finetune.data import read_examples
    from edgeft.stages.finetune.guards import FiniteGuard

    ctx = world.context("gradient")
    module = load_model(world.base, labels=ctx.labels, new_head=True)
    examples = read_examples(ctx, "train", module)
    guard = FiniteGuard(examples, ctx.scratch, ctx.step)
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.tensor([0.0, float("inf"), 1.0])
    guard.check_loss(torch.tensor(0.5), examples.__getitems__([4, 5]), 9)
    with pytest.raises(StepError, match="gradient is not finite at training step 9"):
        guard.check_gradients([weight], 9)
    about, arrays = kept_batch(world, "gradient")
    assert about["ids"] == ["train-4", "train-5"]
    assert "row" not in arrays


def test_finite_runs_leave_nothing(world: World) -> None:
    done: Artifact = world.run({"method": "lora", "max_steps": 2, "batch_size": 8}, "fine")
    assert done.facts["training"]["steps"] == 2
    assert not (world.root / "scratch" / "fine" / "nan-batch").exists()
