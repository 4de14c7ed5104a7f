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
    return dict(ctx.task.feeds(parquet.read_table(ctx.splits[split].path), world.root / "prepared"))


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
    assert f"{len(kept)} of 600 tokens kept" in " ".join(event.note for event in world.progress)
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


@pytest.mark.parametrize(
    "options",
    [
        {"method": "wanda", "pattern": "2:4"},
        {"method": "wanda", "ratio": 0.5},
        {"method": "magnitude", "pattern": "2:4"},
        {"method": "magnitude", "ratio": 0.5, "spread": "global"},
    ],
    ids=lambda options: f"{options['method']}-{options.get('pattern', 'unstructured')}",
)
def test_zeros_lie_below_the_head_and_survive_healing(options: dict[str, Any], spoken: Any) -> None:
    world, model = spoken
    pruned = world.prune({**options, "heal_steps": 6, "heal_distil": True}, world.prune(WORDS, model))
    module = module_of(pruned)
    layers = [child.weight for child in module.model.layers.modules() if isinstance(child, torch.nn.Linear)]
    zeros = sum(int((weight == 0).sum()) for weight in layers) / sum(weight.numel() for weight in layers)
    assert zeros == pytest.approx(0.5, abs=0.01)
    assert bool((module.lm_head.weight != 0).all()) and bool((module.model.embed_tokens.weight != 0).all())
    if "pattern" in options:
        assert all(((weight.reshape(-1, 4) != 0).sum(1) == 2).all() for weight in layers)
    row = pruned.facts["prune"]
    assert len(row["widths"]) == 14 and row["heals"][0]["steps"] == 6


def test_training_under_rounding_leaves_the_head_to_itself(spoken: Any) -> None:
    """All weights, or low-rank updates below the rounding: the embedding and the head then stay as they are."""
    pytest.importorskip("torchao")
    world, model = spoken
    words = world.prune(WORDS, model)
    old = module_of(words)
    for options in ({}, {"rank": 4}):
        fine = {"method": "qat", "max_steps": 6, "batch_size": 16, "learning_rate": 0.003, **options}
        rounded = world.run(fine, f"rounded-{len(options)}", base=words)
        module = module_of(rounded)
        assert rounded.facts["rounding"]["layers"] == 14, "seven linear layers in each of two blocks, the last one too"
        changed = {
            name for name, weight in module.named_parameters() if not torch.equal(weight, old.get_parameter(name))
        }
        layers = {
            f"{name}.weight"
            for name, child in old.model.layers.named_modules(prefix="model.layers")
            if type(child) is torch.nn.Linear
        }
        assert layers <= changed and (changed == layers) is bool(options)
        assert module.lm_head.kept == old.lm_head.kept and logits_of(rounded, world).shape[1] == 600


def test_key_heads_go_with_their_query_heads(spoken: Any) -> None:
    """Four query heads share two key heads; a removed pair equals one that says nothing."""
    pytest.importorskip("torch_pruning")
    world, model = spoken
    pruned = world.prune({"method": "structured", "ratio": 0.5, "head_ratio": 0.5}, model)
    widths = {row["part"]: (row["kind"], row["before"], row["after"]) for row in pruned.facts["prune"]["widths"]}
    assert widths["model.layers.0.self_attn"] == ("heads", 2, 1) and widths["model.layers.1.self_attn"] == (
        "heads",
        2,
        1,
    )
    assert widths["model.layers.0.mlp.up_proj"] == ("neurons", 64, 32)
    module = module_of(pruned)
    attention = module.model.layers[0].self_attn
    assert (attention.q_proj.out_features, attention.k_proj.out_features, attention.o_proj.in_features) == (16, 8, 16)
    heads = world.prune({"method": "structured", "ratio": 0.5, "parts": ["heads"]}, model)
    edits = json.loads((heads.path / "surgery.json").read_text())["edits"]
    silenced = module_of(model)
    with torch.no_grad():
        for edit in edits:
            if edit["module"].endswith("o_proj"):
                gone = sorted(set(range(32)) - set(range(*edit["keep"][0])))
                assert edit["side"] == "in" and gone in (list(range(16)), list(range(16, 32)))
                silenced.get_submodule(edit["module"]).weight[:, gone] = 0
    feeds = feeds_of(world)
    theirs = predict_logits(silenced, feeds)[feeds["attention_mask"] != 0]
    assert np.abs(theirs - logits_of(heads, world)).max() < 1e-4


def test_the_weakest_key_head_goes_by_every_importance(spoken: Any) -> None:
    pytest.importorskip("torch_pruning")
    from edgeft.models.save import save_model

    world, model = spoken
    module = module_of(model)
    with torch.no_grad():
        for layer, weak in zip(module.model.layers, (0, 1), strict=True):
            attention = layer.self_attn
            for part, size in ((attention.k_proj, 8), (attention.v_proj, 8), (attention.q_proj, 16)):
                part.weight[weak * size : (weak + 1) * size] *= 0.01
            attention.o_proj.weight[:, weak * 16 : (weak + 1) * 16] *= 0.01
    folder = world.root / "weak"
    folder.mkdir(exist_ok=True)
    weak_heads = Artifact("torch-model", folder, "", save_model(module, model, folder))
    for importance in ("l1", "l2", "taylor"):
        options = {"method": "structured", "ratio": 0.5, "parts": ["heads"], "importance": importance, "heal_steps": 3}
        pruned = world.prune(options, weak_heads)
        edits = json.loads((pruned.path / "surgery.json").read_text())["edits"]
        kept = {edit["module"]: edit["keep"] for edit in edits if edit["module"].endswith("k_proj")}
        assert kept == {"model.layers.0.self_attn.k_proj": [[8, 16]], "model.layers.1.self_attn.k_proj": [[0, 8]]}
        assert [score["at"] for score in pruned.facts["prune"]["scores"]] == ["before", "pruned", "healed"]


def test_an_encoder_without_an_unknown_token_reads_dropped_ones_as_their_mean(spoken: Any, tmp_path: Path) -> None:
    """RoBERTa's kind of tokenizer: byte-level."""
    import shutil

    from transformers import RobertaConfig, RobertaForSequenceClassification

    from edgeft.stage import Context
    from edgeft.stages.prune import stage_for
    from edgeft.tasks.text_classification import TextClassification

    world, _ = spoken
    labels, folder, out, prepared = ("a", "b", "c"), tmp_path / "roberta", tmp_path / "out", tmp_path / "prepared"
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=600, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, num_labels=3, pad_token_id=1, id2label=dict(enumerate(labels)),
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(world.root / "base" / name, folder)
    out.mkdir()
    prepared.mkdir()
    task, splits = TextClassification(), world.context("splits").splits
    task.prepare(folder, {name: split.path for name, split in splits.items()}, labels, {"length": 24}, prepared)
    ctx = Context("words", 0, tmp_path, task, labels, splits, prepared)
    model = Artifact("torch-model", folder, "", {"form": "transformers"})
    facts = stage_for(WORDS)(**WORDS).run({"model": model}, out, ctx)
    before, after = (
        load_model(Artifact("torch-model", place, "", {"form": "transformers"}), labels=labels).roberta.embeddings
        for place in (folder, out)
    )
    table = after.word_embeddings
    gone = sorted(set(range(600)) - set(table.kept))
    assert len(gone) > 150 and table.weight.shape[0] == 601 - len(gone)
    mean = before.word_embeddings.weight[gone].mean(0)
    assert torch.allclose(table(torch.tensor(gone)), mean.expand(len(gone), -1), atol=1e-6)
    assert "now read as one token, the mean of those dropped" in facts["prune"]["notes"][0]


def test_what_cannot_lose_rows_is_refused_with_its_reason(spoken: Any) -> None:
    from edgeft.errors import StepError
    from edgeft.stages.prune import stage_for
    from edgeft.stages.prune.token_rows import token_rows

    world, model = spoken
    ctx = world.context("rows")

    def refused(change: Any) -> str:
        module = module_of(model)
        change(module)
        with pytest.raises(StepError) as caught:
            token_rows(module, ctx)
        assert "method: depth" in caught.value.hint
        return str(caught.value.what)

    class Scaled(torch.nn.Embedding):
        """Gemma 3's kind: a look-up and a factor."""

    class Doubled(torch.nn.Linear):
        """A head that does more than a product."""

    def share_bias(module: Any) -> None:
        module.lm_head = torch.nn.Linear(32, 600)
        module.model.bias = module.lm_head.bias

    assert "is a Scaled, which does more" in refused(lambda module: module.set_input_embeddings(Scaled(600, 32)))
    assert "answers tokens by a Doubled" in refused(lambda module: module.set_output_embeddings(Doubled(32, 600)))
    assert "reads 600 tokens and answers 640" in refused(
        lambda module: module.set_output_embeddings(torch.nn.Linear(32, 640))
    )
    assert "bias of this model's head is also that of 'model'" in refused(share_bias)
    foreseen = stage_for(WORDS)(**WORDS).foresee(model, ctx)
    assert (foreseen["rows"], foreseen["head"]) == (600, "lm_head")
