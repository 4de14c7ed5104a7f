"""Training on next tokens: labels, loss, evaluation and adapters of a causal language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from edgeft.artifact import Artifact
from edgeft.canonical import digest_tree
from edgeft.models.load import load_model
from edgeft.models.predict import forward_logits, predict_logits
from edgeft.stage import Context, Split
from edgeft.stages.distilling.losses import logits_loss
from edgeft.stages.finetune.adapters import add_adapters
from edgeft.stages.finetune.data import read_examples
from edgeft.stages.finetune.lora import Lora
from edgeft.stages.finetune.trainer import answer, at_labels_size, token_answers
from edgeft.stages.label_loss import label_loss
from edgeft.task import TOKEN_ANSWERS, UNSCORED, keep_answers
from edgeft.tasks.text_generation import TextGeneration

pytestmark = pytest.mark.ml

TEXTS = ["one word after the other", "two words", "what follows is not known before it was written", "the end"]


@pytest.fixture
def ctx(tiny_llama: Path, tmp_path: Path) -> Context:
    path, prepared = tmp_path / "train.parquet", tmp_path / "prepared"
    prepared.mkdir()
    table = pa.table({"id": list("1234"), "text": TEXTS, "label": [0] * 4})
    parquet.write_table(table, path)
    TextGeneration().prepare(tiny_llama, {"train": path}, (), {"length": 16}, prepared)
    splits = {name: Split(name, path, 4, "0" * 64) for name in ("train", "validation")}
    return Context("finetune", 0, tmp_path, TextGeneration(), (), splits, prepared)


@pytest.fixture
def llama(tiny_llama: Path) -> Artifact:
    return Artifact("torch-model", tiny_llama, digest_tree(tiny_llama), {"form": "transformers"})


def test_the_loss_of_a_batch_is_that_of_the_model_itself(ctx: Context, llama: Artifact) -> None:
    """transformers shifts the labels it is given; here they are shifted before, and the model is given none."""
    module: Any = load_model(llama, labels=(), task="text-generation")
    batch = read_examples(ctx, "train", module).__getitems__(range(4))
    ours = label_loss(answer(module, batch), batch["labels"])
    own = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, UNSCORED)
    with torch.no_grad():
        theirs = module(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=own, use_cache=False
        )
    assert float(ours.detach()) == pytest.approx(float(theirs.loss), rel=1e-5)
    assert int((batch["labels"] != UNSCORED).sum()) == int(batch["attention_mask"].sum()) - 4


def test_answers_of_an_evaluation_are_those_that_are_kept(ctx: Context, llama: Artifact) -> None:
    module = load_model(llama, labels=(), task="text-generation")
    examples = read_examples(ctx, "validation", module)
    batch = examples.__getitems__(range(4))
    with torch.no_grad():
        made = token_answers(answer(module, batch), batch["labels"])
    kept = keep_answers(ctx.task, {"logits": predict_logits(module, examples.feeds)}, examples.feeds)
    real = kept["truth"] != UNSCORED
    for name, tensor in zip(TOKEN_ANSWERS, made, strict=True):
        assert np.allclose(tensor.numpy()[real], kept[name][real], atol=1e-4), name


def test_no_keys_and_values_are_kept(llama: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = load_model(llama, labels=(), task="text-generation")
    seen: list[Any] = []
    monkeypatch.setattr(module.model, "forward", watched(module.model.forward, seen))
    forward_logits(module, {"input_ids": torch.ones(1, 4, dtype=torch.int64)})
    assert seen[0].past_key_values is None


def watched(forward: Any, seen: list[Any]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        seen.append(forward(*args, **kwargs))
        return seen[-1]

    return call


def test_adapters_leave_head_and_embedding_alone(llama: Artifact) -> None:
    module: Any = add_adapters(
        load_model(llama, labels=(), task="text-generation"), Lora(method="lora", rank=4), "finetune"
    )
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert not any("lm_head" in name or "embed" in name for name in trained)
    config = module.peft_config["default"]
    assert config.task_type == "CAUSAL_LM" and not config.modules_to_save


def test_classes_of_tokens_are_moved_beside_their_labels_once() -> None:
    logits, labels = torch.randn(2, 5, 7), torch.zeros(2, 5, dtype=torch.int64)
    assert torch.equal(at_labels_size(logits, labels), logits.transpose(1, 2))
    plain = torch.randn(2, 3)
    assert at_labels_size(plain, torch.zeros(2, dtype=torch.int64)) is plain or torch.equal(
        at_labels_size(plain, torch.zeros(2, dtype=torch.int64)), plain
    )


def test_a_teacher_is_followed_at_real_tokens_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(2, 4, 6, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    found = logits_loss(ours, theirs, 2.0, mask)
    for case, real in enumerate((3, 2)):
        each = [
            torch.nn.functional.kl_div(
                torch.log_softmax(ours[case, place] / 2, 0), torch.softmax(theirs[case, place] / 2, 0), reduction="sum"
            )
            for place in range(real)
        ]
        assert float(found[case]) == pytest.approx(4 * float(torch.stack(each).mean()), rel=1e-5)
    ours[0, 3], ours[1, 2:] = 50.0, -50.0
    assert torch.equal(logits_loss(ours, theirs, 2.0, mask), found)
