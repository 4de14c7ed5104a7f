"""Pruning causal language models: fewer tokens with rows of their own, and every other method on a tiny Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from edgeft.artifact import Artifact
from edgeft.models.load import load_model
from edgeft.models.predict import forward_logits, predict_logits
from tests.stages.language_world import LanguageWorld, make_language_world

pytestmark = pytest.mark.ml

WORDS = {"method": "vocabulary", "min_count": 12}


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def spoken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, text_csv: Path
) -> tuple[LanguageWorld, Artifact]:
    """A tiny Llama that learnt for 60 steps, its head a matrix of its own or the embedding."""
    return make_language_world(tmp_path_factory.mktemp("language"), text_csv, tied=request.param)


def module_of(model: Artifact) -> Any:
    return load_model(model, labels=(), task="text-generation")


def feeds_of(world: LanguageWorld, split: str = "validation") -> dict[str, Any]:
    ctx = world.context("feeds")
    return dict(ctx.task.feeds(parquet.read_table(ctx.splits[split].path), ctx.prepared))


def logits_of(model: Artifact, world: LanguageWorld) -> Any:
    """(tokens, vocabulary) of the validation texts' real tokens."""
    feeds = feeds_of(world)
    return predict_logits(module_of(model), feeds)[feeds["attention_mask"] != 0]


def test_rows_go_from_embedding_and_head_and_every_token_keeps_a_logit(spoken: Any) -> None:
    world, model = spoken
    pruned = world.prune(WORDS, model)
    before, after = module_of(model), module_of(pruned)
    head, table = after.lm_head, after.model.embed_tokens
    tied = before.lm_head.weight is before.model.embed_tokens.weight
    assert (head.weight is table.weight) is tied
    kept = list(table.kept)
    assert (
        head.kept == table.kept and len(kept) < 450 and head.weight.shape == table.weight.shape == (len(kept) + 1, 32)
    )
    assert torch.equal(table.weight[:-1], before.model.embed_tokens.weight[kept])
    assert torch.equal(head.weight[:-1], before.lm_head.weight[kept])
    gone = sorted(set(range(600)) - set(kept))
    assert torch.equal(table(torch.tensor(gone)), table.weight[-1].expand(len(gone), -1))
    logits = logits_of(pruned, world)
    assert logits.shape[1] == 600 and np.isfinite(logits).all()
    assert (logits[:, gone] == logits[:, gone[:1]]).all()
    row = pruned.facts["prune"]
    assert row["notes"][0].startswith(f"{len(kept)} of 600 tokens kept: 0.0 MB")
    assert row["parameters"][0] - row["parameters"][1] == (599 - len(kept)) * 32 * (1 if tied else 2)
    assert [width["part"] for width in row["widths"]] == ["model.embed_tokens", "lm_head"][: 1 if tied else 2]
    assert np.array_equal(logits, logits_of(world.prune(WORDS, model), world))
    stored = set(_names(pruned.path / "model.safetensors"))
    assert ("lm_head.weight" in stored) is not tied and not any("places" in name for name in stored)


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(str(path), "pt") as stream:
        return list(stream.keys())


def test_single_bytes_special_and_named_tokens_stay(spoken: Any) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    world, model = spoken
    vocabulary = json.loads((world.root / "prepared/tokenizer.json").read_text())["model"]["vocab"]
    rare = max(vocabulary, key=vocabulary.__getitem__)
    options = {**WORDS, "min_count": 10_000, "keep_tokens": [rare], "keep_first": 5}
    table = module_of(world.prune(options, model)).model.embed_tokens
    wanted = {vocabulary[letter] for letter in ByteLevel.alphabet()} | {0, 1, 2, 3, 4, vocabulary[rare]}
    assert set(table.kept) == wanted


def test_the_dropped_tokens_keep_their_share_of_the_probability(spoken: Any) -> None:
    """On the train texts it was measured on exactly; there a plain mean of rows makes them less likely."""
    world, model = spoken
    pruned = world.prune(WORDS, model)
    old, new = module_of(model), module_of(pruned)
    gone = sorted(set(range(600)) - set(new.lm_head.kept))
    feeds = feeds_of(world, "train")
    rows = [index * 400 // 256 for index in range(256)]
    feeds = {name: array[rows] for name, array in feeds.items()}
    real = (feeds["attention_mask"][:, 1:] & feeds["attention_mask"][:, :-1]) != 0

    def share(module: Any) -> float:
        logits = torch.from_numpy(predict_logits(module, feeds)[:, :-1][real]).double()
        return float(logits.softmax(-1)[:, gone].sum(-1).mean())

    plain = module_of(model)
    from edgeft.models.surgery import Answers, Vocabulary, operate, spans

    keep = spans(new.lm_head.kept)
    operate(
        plain,
        [Vocabulary(module="model.embed_tokens", of=600, keep=keep), Answers(module="lm_head", of=600, keep=keep)],
    )
    assert torch.allclose(plain.lm_head.weight[-1], old.lm_head.weight[gone].mean(0), atol=1e-6)
    assert share(new) == pytest.approx(share(old), rel=0.05)  # what is read changed, too: the embedding's rows
    assert share(plain) < 0.8 * share(old)


def test_a_dropped_token_is_never_the_likeliest(spoken: Any) -> None:
    """Even where their row would win by far, each stays a nat below a token that can be told apart."""
    world, model = spoken
    module = module_of(world.prune(WORDS, model))
    feeds = {name: torch.from_numpy(array[:8]) for name, array in feeds_of(world).items()}
    module.lm_head.shift = 100.0
    with torch.no_grad():
        logits = forward_logits(module, feeds)
    gone = sorted(set(range(600)) - set(module.lm_head.kept))
    best = logits[..., list(module.lm_head.kept)].amax(-1)
    assert torch.allclose(logits[..., gone].amax(-1), best - 1) and not set(logits.argmax(-1).ravel().tolist()) & set(
        gone
    )


def test_it_is_cut_twice_trained_adapted_and_made_shallower(spoken: Any) -> None:
    world, model = spoken
    first = world.prune({**WORDS, "min_count": 4}, model)
    second = world.prune({**WORDS, "heal_steps": 6, "heal_distil": True}, first)
    straight = module_of(world.prune(WORDS, model))
    assert module_of(second).lm_head.kept == straight.lm_head.kept
    assert [score["at"] for score in second.facts["prune"]["scores"]] == ["before", "pruned", "healed"]
    for method in ("lora", "qlora"):
        options = {"method": method, "max_steps": 3, "batch_size": 16, "learning_rate": 0.001}
        merged = world.merge(world.run(options, f"words-{method}", base=second), second)
        assert module_of(merged).lm_head.kept == straight.lm_head.kept
    shallow = world.prune({"method": "depth", "drop": 1}, merged)
    student = world.distil({"max_steps": 3}, student=shallow, teacher=model)
    module = module_of(student)
    assert len(module.model.layers) == 1 and module.lm_head.kept == straight.lm_head.kept
    assert logits_of(student, world).shape[1] == 600
    assert (module.lm_head.weight is module.model.embed_tokens.weight) is module.config.tie_word_embeddings
