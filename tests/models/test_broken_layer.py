"""Logits that are no numbers are told with the layer they begin in, at the step that first sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.pipeline.steps.answers import read_cases, source_outputs
from tests.stages.world import LABELS, World, make_world

pytestmark = pytest.mark.ml
LAYER, AFTER = "bert.encoder.layer.1.output.dense", "bert.encoder.layer.1.output.LayerNorm"
"""Large weights make large, finite values, whose variance overflows."""


def classifier(world: World, change: Any = None) -> Artifact:
    """The world's BERT with a head, with one layer's weights changed."""
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    labels = dict(enumerate(LABELS))
    model = BertForSequenceClassification.from_pretrained(world.root / "base", num_labels=len(LABELS), id2label=labels)
    if change is not None:
        with torch.no_grad():
            change(model.get_submodule(LAYER).weight)
    model.save_pretrained(world.root / "teacher")
    return world.at("teacher")


@pytest.fixture
def world(tmp_path: Path) -> World:
    stated = make_world(tmp_path).root / "prepared/preprocess.json"
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    stated.write_text(json.dumps({**json.loads(stated.read_text()), "inputs": inputs}))
    return World(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weight: weight.mul_(1e38).mul_(1e38), f"layer {LAYER} (its weights are not finite)"),
        (lambda weight: weight.fill_(1e30), f"layer {AFTER}"),
    ],
)
def test_the_source_that_answers_nan_is_named_with_its_layer(world: World, change: Any, says: str) -> None:
    ctx = world.context("source/search")
    with pytest.raises(StepError) as caught:
        source_outputs({"model": classifier(world, change)}, read_cases(ctx, "validation", None), ctx)
    assert caught.value.where == "step source/search"
    assert caught.value.what == (
        f"logits of the source model are NaN or infinite in 48 of 48 cases; in the first of them this begins in {says}"
    )


def test_a_pruning_step_that_is_given_such_a_model_says_so_before_it_cuts(world: World) -> None:
    model = classifier(world, lambda weight: weight.fill_(1e30))
    with pytest.raises(StepError, match=f"the model before pruning are NaN or infinite.*begins in layer {AFTER}"):
        world.prune({"method": "magnitude", "ratio": 0.5}, model)


def test_finite_answers_pass(world: World) -> None:
    ctx = world.context("source/search")
    found = source_outputs({"model": classifier(world)}, read_cases(ctx, "validation", None), ctx)
    assert found["logits"].shape == (48, len(LABELS)) and np.isfinite(found["logits"]).all()
