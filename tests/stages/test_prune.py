"""Pruning stages: what they remove, that their files give the model back bit by bit, and that errors name the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError, StepError
from tests.stages.world import LABELS, World

pytestmark = pytest.mark.ml

METHODS: dict[str, dict[str, Any]] = {
    "structured": {"method": "structured", "ratio": 0.5},
    "depth": {"method": "depth", "drop": 1},
    "vocabulary": {"method": "vocabulary", "min_count": 45},
    "magnitude": {"method": "magnitude", "ratio": 0.6},
    "wanda": {"method": "wanda", "ratio": 0.5},
}


@pytest.fixture(scope="session")
def tuned(learned: World) -> Artifact:
    """A fine-tuned two-layer BERT (hidden 64) that gets every validation row right."""
    found = learned.run({"method": "full", "epochs": 4, "batch_size": 16, "learning_rate": 0.002}, "tuned")
    assert found.facts["training"]["best_metric"] > 0.95
    return found


def module_of(model: Artifact) -> Any:
    from edgeft.models.load import load_model

    return load_model(model, labels=LABELS)


def logits_of(model: Artifact | Any, world: World) -> Any:
    import pyarrow.parquet as pq

    from edgeft.models.predict import predict_logits

    ctx = world.context("logits")
    feeds = dict(ctx.task.feeds(pq.read_table(ctx.splits["validation"].path), world.root / "prepared"))
    return predict_logits(module_of(model) if isinstance(model, Artifact) else model, feeds)


@pytest.mark.parametrize("method", list(METHODS))
def test_each_method_shrinks_and_its_file_gives_the_model_back(method: str, learned: World, tuned: Artifact) -> None:
    """The stage itself compares reloaded with live logits; here two loads and a second, equal run are compared too."""
    import numpy as np

    pruned = learned.prune(METHODS[method], tuned)
    row = pruned.facts["prune"]
    assert np.array_equal(logits_of(pruned, learned), logits_of(pruned, learned))
    assert not np.array_equal(logits_of(pruned, learned), logits_of(tuned, learned))
    assert learned.prune(METHODS[method], tuned).digest == pruned.digest
    assert [score["at"] for score in row["scores"]] == ["before", "pruned"]
    if method in ("magnitude", "wanda"):
        assert row["compressed"][1] < 0.75 * row["compressed"][0] and row["macs"] is None
        assert "not the model faster" in row["notes"][0]
    else:
        assert row["parameters"][1] < row["parameters"][0]
        assert row["widths"] and all(width["after"] < width["before"] for width in row["widths"])


def test_structured_removes_the_units_with_the_smallest_weights(learned: World, tuned: Artifact) -> None:
    import torch

    pruned = learned.prune({"method": "structured", "ratio": 0.25, "parts": ["neurons"]}, tuned)
    before, after = module_of(tuned), module_of(pruned)
    for old, new in zip(before.bert.encoder.layer, after.bert.encoder.layer, strict=True):
        rows = old.intermediate.dense.weight.square().sum(1)
        columns = old.output.dense.weight.square().sum(0)
        kept = (rows + columns).argsort(descending=True)[:96].sort().values
        assert torch.equal(new.intermediate.dense.weight, old.intermediate.dense.weight[kept])
        assert torch.equal(new.output.dense.weight, old.output.dense.weight[:, kept])
        assert new.attention.self.num_attention_heads == 2


def test_a_removed_head_equals_a_head_that_says_nothing(learned: World, tuned: Artifact) -> None:
    import numpy as np
    import torch

    pruned = learned.prune({"method": "structured", "ratio": 0.5, "parts": ["heads"]}, tuned)
    edits = [
        edit for edit in json.loads((pruned.path / "surgery.json").read_text())["edits"] if edit["edit"] == "heads"
    ]
    assert [edit["of"] for edit in edits] == [2, 2]
    silenced = module_of(tuned)
    with torch.no_grad():
        for layer, edit in zip(silenced.bert.encoder.layer, edits, strict=True):
            gone = 1 - edit["keep"][0][0]
            layer.attention.output.dense.weight[:, gone * 32 : (gone + 1) * 32] = 0
    # The same sums with fewer zero terms: float32 rounding of logits of order 5.
    assert np.abs(logits_of(silenced, learned) - logits_of(pruned, learned)).max() < 1e-4


def test_head_counts_may_differ_by_layer(learned: World, tuned: Artifact) -> None:
    """Weak heads in one layer only: ranked over the whole network they go first."""
    import torch

    from edgeft.models.save import save_model

    module = module_of(tuned)
    with torch.no_grad():
        attention = module.bert.encoder.layer[0].attention
        for part in (attention.self.query, attention.self.key, attention.self.value):
            part.weight[:32] *= 0.01
        attention.output.dense.weight[:, :32] *= 0.01
    folder = learned.root / "weak"
    folder.mkdir()
    weak = Artifact("torch-model", folder, "", save_model(module, tuned, folder))
    pruned = learned.prune({"method": "structured", "ratio": 0.25, "parts": ["heads"], "spread": "global"}, weak)
    assert [width["after"] for width in pruned.facts["prune"]["widths"]] == [1, 2]


def test_two_prunes_in_a_row_and_a_third_of_another_kind(learned: World, tuned: Artifact) -> None:
    first = learned.prune({"method": "structured", "ratio": 0.25}, tuned)
    second = learned.prune({"method": "structured", "ratio": 0.25, "parts": ["neurons"]}, first)
    third = learned.prune({"method": "depth", "drop": 1}, second)
    fourth = learned.prune({"method": "vocabulary", "min_count": 45}, third)
    widths = [module_of(model).bert.encoder.layer[0].intermediate.dense.out_features for model in (first, second)]
    assert widths == [96, 72]
    config = json.loads((fourth.path / "config.json").read_text())
    surgery = json.loads((fourth.path / "surgery.json").read_text())
    assert config["num_hidden_layers"] == 1 and surgery["layers"] == 2
    assert len(surgery["edits"]) > len(json.loads((third.path / "surgery.json").read_text())["edits"])
    assert logits_of(fourth, learned).shape == (48, 3)


def test_a_pruned_base_takes_adapters_merges_and_is_pruned_again(learned: World, tuned: Artifact) -> None:
    """prune -> finetune lora -> merge -> prune, and qlora on the pruned base."""
    import numpy as np

    pruned = learned.prune({"method": "structured", "ratio": 0.5}, tuned)
    for method in ("lora", "qlora"):
        options = {"method": method, "max_steps": 4, "batch_size": 16, "learning_rate": 0.001}
        adapter = learned.run(options, f"on-pruned-{method}", base=pruned)
        merged = learned.merge(adapter, pruned)
        assert (merged.path / "surgery.json").read_bytes() == (pruned.path / "surgery.json").read_bytes()
        again = learned.prune({"method": "structured", "ratio": 0.5, "parts": ["neurons"]}, merged)
        assert module_of(again).bert.encoder.layer[1].intermediate.dense.out_features == 32
        assert np.isfinite(logits_of(again, learned)).all()
    full = learned.run({"method": "full", "max_steps": 3}, "on-pruned-full", base=pruned)
    assert module_of(full).bert.encoder.layer[0].attention.self.num_attention_heads == 1


def test_depth_drops_the_layer_that_matters_least(learned: World, tuned: Artifact) -> None:
    """A layer whose outputs are silenced does nothing: it must be the one that goes, wherever it stands."""
    import torch

    from edgeft.models.save import save_model

    for place in (0, 1):
        module = module_of(tuned)
        with torch.no_grad():
            layer = module.bert.encoder.layer[place]
            for dense in (layer.attention.output.dense, layer.output.dense):
                dense.weight.zero_()
                dense.bias.zero_()
        folder = learned.root / f"silent-{place}"
        folder.mkdir()
        silent = Artifact("torch-model", folder, "", save_model(module, tuned, folder))
        notes = learned.prune({"method": "depth", "drop": 1}, silent).facts["prune"]["notes"]
        assert notes[0] == f"layers kept, counted from 0: {1 - place}"


def test_vocabulary_counts_the_rows_it_costs_and_maps_dropped_tokens_to_unknown(
    learned: World, tuned: Artifact
) -> None:
    import torch

    options = {"method": "vocabulary", "min_count": 45, "keep_tokens": ["ice"], "keep_first": 3}
    pruned = learned.prune(options, tuned)
    old, new = module_of(tuned).bert.embeddings.word_embeddings, module_of(pruned).bert.embeddings.word_embeddings
    assert {0, 1, 2} <= set(new.kept) and len(new.kept) < 51
    ice = 42  # [PAD], [UNK] and 40 fillers come first
    ids = torch.arange(51)
    kept = torch.tensor([id_ in new.kept for id_ in range(51)])
    assert ice in new.kept
    assert torch.equal(new(ids)[kept], old(ids)[kept])
    assert torch.equal(new(ids)[~kept], old(torch.tensor(1)).expand(int((~kept).sum()), -1))
    row = pruned.facts["prune"]
    words, count = row["notes"][0].split()[:3:2]
    assert 0 < int(words) <= int(count) == 48
    with pytest.raises(StepError, match="'icee' is not in the vocabulary") as caught:
        learned.prune({**options, "keep_tokens": ["icee"]}, tuned)
    assert caught.value.hint == "did you mean 'ice'?"


def test_healing_helps_and_zeros_stay_zero(learned: World, tuned: Artifact) -> None:
    options = {
        "method": "magnitude",
        "ratio": 0.93,
        "heal_steps": 40,
        "heal_learning_rate": 0.003,
        "heal_batch_size": 16,
    }
    healed = learned.prune(options, tuned)
    row = healed.facts["prune"]
    scores = {score["at"]: score["value"] for score in row["scores"]}
    assert scores["pruned"] < 0.8 < scores["healed"]
    assert len(row["heals"]) == 1 and row["heals"][0]["curve"]
    module = module_of(healed)
    for width in row["widths"]:
        assert int((module.get_parameter(width["part"]) != 0).sum()) <= width["after"]


def test_a_shallower_model_is_an_ordinary_transformers_model(learned: World, tuned: Artifact) -> None:
    from transformers import AutoModelForSequenceClassification

    pruned = learned.prune({"method": "depth", "drop": 1}, tuned)
    assert not (pruned.path / "surgery.json").exists()
    plain = AutoModelForSequenceClassification.from_pretrained(pruned.path, local_files_only=True)
    assert len(plain.bert.encoder.layer) == 1


def test_a_shallower_student_of_a_pruned_model_comes_back(learned: World, tuned: Artifact) -> None:
    """distill: {student_layers: 1} on a base whose edits name both layers."""
    pruned = learned.prune({"method": "structured", "ratio": 0.5}, tuned)
    student = learned.distil({"student_layers": 1, "max_steps": 3}, student=pruned, teacher=tuned)
    module = module_of(student)
    assert len(module.bert.encoder.layer) == 1
    assert module.bert.encoder.layer[0].intermediate.dense.out_features == 64


def test_healing_learns_from_the_unpruned_model(learned: World, tuned: Artifact) -> None:
    """Its classes are compared as well as the labels, and the outcome is another than of the labels alone."""
    options = {"method": "structured", "ratio": 0.5, "heal_steps": 6}
    alone, taught = learned.prune(options, tuned), learned.prune({**options, "heal_distil": True}, tuned)
    about = taught.facts["prune"]["heals"][0]["teacher"]
    assert about["weights"]["logits"] == 0.5 and not alone.facts["prune"]["heals"][0].get("teacher")
    assert taught.digest != alone.digest


@pytest.mark.parametrize("method", ["full", "lora"])
def test_iterative_pruning_heals_in_between(method: str, learned: World, tuned: Artifact) -> None:
    options = {
        "method": "structured", "ratio": 0.5, "iterations": 2, "heal_steps": 6, "heal_method": method,
        "importance": "taylor", "spread": "global", "heal_rank": 4,
    }  # fmt: skip
    pruned = learned.prune(options, tuned)
    row = pruned.facts["prune"]
    assert [score["at"] for score in row["scores"]] == ["before", "pruned 1", "healed 1", "pruned 2", "healed 2"]
    neurons = [width for width in row["widths"] if width["kind"] == "neurons"]
    assert sum(width["after"] for width in neurons) == sum(width["before"] for width in neurons) // 2
    assert row["macs"][1] < 0.62 * row["macs"][0]


def test_two_of_four(learned: World, tuned: Artifact) -> None:
    for method in ("magnitude", "wanda"):
        module = module_of(learned.prune({"method": method, "pattern": "2:4"}, tuned))
        weight = module.bert.encoder.layer[0].intermediate.dense.weight
        assert ((weight.reshape(-1, 4) != 0).sum(1) == 2).all()


def test_wanda_judges_by_input_as_well(learned: World, tuned: Artifact) -> None:
    """The formula of the paper, computed here by a plain forward over the calibration rows one by one."""
    import pyarrow.parquet as pq
    import torch

    ctx = learned.context("wanda")
    module, place = module_of(tuned), "bert.encoder.layer.0.intermediate.dense"
    seen: list[Any] = []
    module.get_submodule(place).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    feeds = ctx.task.feeds(pq.read_table(ctx.splits["calibration"].path), learned.root / "prepared")
    squares: Any = 0
    for index in range(len(feeds["input_ids"])):
        row = {name: torch.from_numpy(array[index : index + 1]) for name, array in feeds.items()}
        with torch.no_grad():
            module(**row)
        real = seen.pop()[0, : int(row["attention_mask"].sum())]
        squares = squares + real.double().square().sum(0)
    weight = module.get_parameter(f"{place}.weight").detach()
    scores = weight.abs() * squares.sqrt().float()
    zeros = scores.argsort(dim=1)[:, :32]
    pruned = module_of(learned.prune({"method": "wanda", "ratio": 0.5}, tuned)).get_parameter(f"{place}.weight")
    wanted = weight.scatter(1, zeros, 0.0)
    assert float((pruned != wanted).float().mean()) < 0.001  # near-ties may fall the other way after batching


def test_mistakes_are_named_with_what_to_do(learned: World, tuned: Artifact, tmp_path: Path) -> None:
    def refused(options: dict[str, Any], **rest: Any) -> EdgeftError:
        with pytest.raises(EdgeftError) as caught:
            learned.prune(options, tuned, **rest)
        return caught.value

    error = refused({"method": "structured", "ratio": 0.95})
    assert "leaves no heads in bert.encoder.layer.0.attention.self" in error.what and "0.749" in error.hint
    error = refused({"method": "structured", "ratio": 0.2, "skip": ["intermediat"]})
    assert "'intermediat'" in error.what and "intermediate" in error.hint
    error = refused({"method": "structured", "ratio": 0.2, "parts": ["channels"]})
    assert "no channels" in error.what and "heads and neurons" in error.hint
    error = refused({"method": "depth", "drop": 2})
    assert "would leave nothing of the 2 layers" in error.what and "at most 1" in error.hint
    error = refused({"method": "structrued", "ratio": 0.2})
    assert "structrued" in error.what and "structured" in error.hint
    ctx = learned.context("no-train")
    ctx.splits = {name: split for name, split in ctx.splits.items() if name != "train"}
    error = refused({"method": "structured", "ratio": 0.2, "heal_epochs": 1}, ctx=ctx)
    assert "healing trains on the train split, and there is none" in error.what
    error = refused({"method": "structured", "ratio": 0.2, "importance": "taylor"}, ctx=ctx)
    assert "taylor needs the train split" in error.what
    with pytest.raises(StepError, match="no trained head"):
        learned.prune({"method": "depth", "drop": 1})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"ratio": 0.1, "round_to": 64, "parts": ["neurons"]},
            "ratio asks for 0.1 of the neurons, and 0 went (0 of 256 in 2 layers): round_to: 64 keeps multiples",
        ),
        (
            {"ratio": 0.9, "round_to": 64, "parts": ["neurons"]},
            "ratio asks for 0.9 of the neurons, and 0.5 went (128 of 256 in 2 layers): round_to: 64 keeps multiples",
        ),
        (
            {"ratio": 0.3, "parts": ["heads"]},
            "ratio asks for 0.3 of the heads, and 0.5 went (2 of 4 in 2 layers): so few cannot be divided closer",
        ),
        ({"ratio": 0.5, "round_to": 64, "parts": ["neurons"]}, ""),
    ],
)
def test_what_went_is_told_where_it_is_far_from_the_ratio(
    options: dict[str, Any], says: str, learned: World, tuned: Artifact
) -> None:
    learned.warnings.clear()
    facts = learned.prune({"method": "structured", **options}, tuned).facts
    assert [text for text in learned.warnings if "went" in text] == ([says] if says else [])
    assert not facts["prune"]["notes"], "the latency budget has nothing to do with it"


def test_a_network_whose_file_does_not_give_it_back_is_refused(learned: World, tuned: Artifact, tmp_path: Path) -> None:
    """What a forward pass reads and no state dictionary holds is lost in saving."""
    from edgeft.models.save import save_model
    from edgeft.stages.prune.subject import Subject, check_reload

    ctx = learned.context("hidden-state")
    subject = Subject.load(tuned, ctx)
    facts = dict(save_model(subject.module, tuned, tmp_path))
    check_reload(subject, tmp_path, facts, ctx)
    dense = subject.module.bert.pooler.dense
    dense.register_forward_hook(lambda part, given, output: 2 * output)
    with pytest.raises(StepError, match="does not come back equal from its file") as caught:
        check_reload(subject, tmp_path, facts, ctx)
    assert caught.value.where == "step hidden-state" and "surgery.json" in caught.value.hint


def test_a_damaged_surgery_file_stops_loading(learned: World, tuned: Artifact) -> None:
    import shutil

    pruned = learned.prune({"method": "structured", "ratio": 0.5}, tuned)
    folder = learned.root / "damaged"
    shutil.copytree(pruned.path, folder)
    damaged = Artifact("torch-model", folder, "", {"form": "transformers"})
    text = (folder / "surgery.json").read_text()
    (folder / "surgery.json").write_text(text.replace("encoder.layer.1", "encoder.layer.7", 1))
    with pytest.raises(StepError, match=r"edit \d+, \w+ of 'bert.encoder.layer.7.*no such module; did you mean"):
        module_of(damaged)
    (folder / "surgery.json").unlink()
    with pytest.raises(StepError, match=r"weights do not fit") as caught:
        module_of(damaged)
    assert "surgery.json" in caught.value.hint


def test_without_the_extra_the_error_names_it(learned: World, tuned: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(StepError, match="structured pruning needs torch-pruning") as caught:
        learned.prune({"method": "structured", "ratio": 0.2}, tuned)
    assert "edgeft[prune]" in caught.value.hint
