"""Weights that pruning set to zero stay there through whatever trains later."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.stages.finetune.lora import Lora
from edgeft.stages.finetune.qat import Qat
from edgeft.stages.prune.structured import Structured
from edgeft.stages.zeros import check_zeros, find_zeros
from tests.stages.test_prune import module_of, tuned
from tests.stages.world import World

pytestmark = pytest.mark.ml

__all__ = ["tuned"]
TRAINED: dict[str, Any] = {"max_steps": 12, "batch_size": 16, "learning_rate": 0.003, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def sparse(learned: World, tuned: Artifact) -> Artifact:
    return learned.prune({"method": "magnitude", "pattern": "2:4"}, tuned)


def filled(sparse: Artifact, after: Artifact) -> float:
    """Share of the zeroed weights that are not zero any more; the other weights must have moved."""
    before, now = module_of(sparse), module_of(after)
    masks = find_zeros(before)
    assert len(masks) > 10
    moved = [bool((now.get_parameter(name) != before.get_parameter(name))[mask].any()) for name, mask in masks.items()]
    assert all(moved)
    changed = sum(int((now.get_parameter(name)[~mask] != 0).sum()) for name, mask in masks.items())
    return changed / sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("method", ["full", "qat"])
def test_fine_tuning_keeps_them_where_it_is_told(method: str, learned: World, sparse: Artifact) -> None:
    if method == "qat":
        pytest.importorskip("torchao")
    made = learned.run({"method": method, "keep_zeros": True, **TRAINED}, f"kept-{method}", base=sparse)
    assert filled(sparse, made) == 0


def test_untold_it_fills_them(learned: World, sparse: Artifact) -> None:
    """What the test above would see if nothing held them."""
    assert filled(sparse, learned.run({"method": "full", **TRAINED}, "filled", base=sparse)) > 0.9


def test_a_later_heal_keeps_them(learned: World, sparse: Artifact) -> None:
    """Depth pruning before the heal takes a layer away; the others' zeros stay."""
    options = {"method": "depth", "drop": 1, "heal_steps": 8, "heal_batch_size": 16, "heal_learning_rate": 0.003}
    module = module_of(learned.prune({**options, "keep_zeros": True}, sparse))
    weights = [layer.intermediate.dense.weight for layer in module.bert.encoder.layer]
    assert [float((weight == 0).float().mean()) for weight in weights] == [0.5]


def test_frozen_parts_need_no_holding(learned: World, sparse: Artifact) -> None:
    made = learned.run({"method": "full", "trainable": "head", "keep_zeros": True, **TRAINED}, "head", base=sparse)
    masks = find_zeros(module_of(sparse))
    assert all(bool((module_of(made).get_parameter(name)[~mask] == 0).all()) for name, mask in masks.items())


def test_a_zero_that_moved_is_an_error(sparse: Artifact) -> None:
    import torch

    module = module_of(sparse)
    masks = find_zeros(module)
    name = next(iter(masks))
    with torch.no_grad():
        module.get_parameter(name).add_(1e-6)
    with pytest.raises(StepError, match="moved pruned weights"):
        check_zeros(module, masks, "finetune")


@pytest.mark.parametrize(
    ("stage", "options"),
    [(Lora, {}), (Qat, {"rank": 4}), (Structured, {"ratio": 0.2, "heal_steps": 2, "heal_method": "lora"})],
)
def test_what_adds_to_every_weight_cannot_keep_them(stage: Any, options: dict[str, Any]) -> None:
    stage(**options)
    with pytest.raises(ValidationError, match="keep_zeros"):
        stage(**options, keep_zeros=True)
