"""Loading, predicting and saving: every form, and every way in which weights may not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.artifact import Artifact
from edgeft.canonical import digest_tree
from edgeft.errors import StepError
from edgeft.models.code import fill, load_code
from edgeft.models.layers import body_linears, head_modules
from edgeft.models.load import load_model, load_source
from edgeft.models.predict import forward_logits, predict_logits
from edgeft.models.save import save_transformers
from tests.stages.world import LABELS, World, vocabulary

pytestmark = pytest.mark.ml


@pytest.fixture
def feeds() -> dict[str, Any]:
    """24 rows of 3 to 16 tokens, padded to 16."""
    rng = np.random.default_rng(0)
    mask = (np.arange(16)[None] < rng.integers(3, 17, 24)[:, None]).astype(np.int64)
    ids = rng.integers(2, len(vocabulary()), (24, 16)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def fine_tuned(world: World, folder: Path, **config: Any) -> Artifact:
    module: Any = load_model(world.base, labels=LABELS, new_head=True)
    folder.mkdir()
    save_transformers(module, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return Artifact("torch-model", folder, digest_tree(folder), {"form": "transformers"})


def test_a_new_head_depends_on_the_seed_alone(world: World, feeds: dict[str, Any]) -> None:
    import torch

    torch.manual_seed(1)
    one = predict_logits(load_model(world.base, labels=LABELS, new_head=True, seed=5), feeds)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = predict_logits(load_model(world.base, labels=LABELS, new_head=True, seed=5), feeds)
    assert torch.equal(torch.get_rng_state(), state)
    other = predict_logits(load_model(world.base, labels=LABELS, new_head=True, seed=6), feeds)
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_model_without_a_head_does_not_answer_at_random(world: World) -> None:
    with pytest.raises(StepError, match="no trained head for 3 labels") as caught:
        load_source(world.base, None, world.context("source"))
    assert "fine-tune" in caught.value.hint


def test_a_head_for_other_labels(world: World, tmp_path: Path) -> None:
    model = fine_tuned(world, tmp_path / "model")
    with pytest.raises(StepError, match="no trained head for 5 labels"):
        load_model(model, labels=list("abcde"))
    assert load_model(model, labels=list("abcde"), new_head=True).config.num_labels == 5  # type: ignore[union-attr,operator]


def test_weights_of_another_architecture(world: World, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = fine_tuned(world, tmp_path / "model")
    path = model.path / "model.safetensors"
    state = {
        name.replace("attention.self.query", "attention.self.q"): tensor for name, tensor in load_file(path).items()
    }
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(StepError, match=r"missing 4: .*query.* \(did you mean .*self\.q"):
        load_model(model, labels=LABELS)


def test_a_pruned_shape_is_refused(world: World, tmp_path: Path) -> None:
    model = fine_tuned(world, tmp_path / "model", intermediate_size=48)
    with pytest.raises(StepError, match="do not fit"):
        load_model(model, labels=LABELS)


def test_a_pickle_is_not_opened(world: World, tmp_path: Path) -> None:
    import torch

    model = fine_tuned(world, tmp_path / "model")
    (model.path / "model.safetensors").unlink()
    torch.save({}, model.path / "pytorch_model.bin")
    with pytest.raises(StepError, match="cannot load this folder"):
        load_model(model, labels=LABELS)


def test_remote_code_is_never_run(world: World, tmp_path: Path) -> None:
    model = fine_tuned(
        world,
        tmp_path / "model",
        model_type="mine",
        auto_map={"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.M"},
    )
    (model.path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(StepError):
        load_model(model, labels=LABELS)
    assert not (tmp_path / "ran").exists()


def test_batch_split_does_not_matter(world: World, feeds: dict[str, Any]) -> None:
    module = load_model(world.base, labels=LABELS, new_head=True)
    seen: list[tuple[float, float]] = []
    one = predict_logits(module, feeds, batch_size=1)
    seven = predict_logits(module, feeds, batch_size=7, progress=lambda done, total: seen.append((done, total)))
    # float32: another batch split changes the order of sums only.
    assert one.dtype == np.float32 and one.shape == (24, 3)
    assert np.abs(one - seven).max() < 1e-5
    assert seen == [(7, 24), (14, 24), (21, 24), (24, 24)]


def test_nf4_of_the_body_alone(world: World, feeds: dict[str, Any]) -> None:
    exact = predict_logits(load_model(world.base, labels=LABELS, new_head=True), feeds)
    module = load_model(world.base, labels=LABELS, new_head=True, quantise="nf4")
    kinds = {name: type(child).__name__ for name, child in module.named_modules()}
    assert {name for name, kind in kinds.items() if kind == "Linear4bit"} == set(
        body_linears(load_model(world.base, labels=LABELS, new_head=True))
    )
    assert kinds["classifier"] == kinds["bert.pooler.dense"] == "Linear"
    error = np.abs(predict_logits(module, feeds) - exact).max()
    assert 1e-6 < error < 0.1


def test_nf4_of_weights_stored_in_16_bits(world: World, tmp_path: Path) -> None:
    """The codes, and the float weights behind them, are those of the same values in float32, whoever loads them."""
    import torch

    from edgeft.models.nf4 import quantise_nf4

    half = load_model(world.base, labels=LABELS, new_head=True).to(torch.bfloat16)
    single = load_model(world.base, labels=LABELS, new_head=True).to(torch.bfloat16).to(torch.float32)
    names = body_linears(half)
    for module in (half, single):
        quantise_nf4(module, names, compute_dtype=torch.float32)
    for name in names:
        ours, theirs = half.get_submodule(name).weight, single.get_submodule(name).weight
        assert torch.equal(ours.data, theirs.data) and ours.quant_state.dtype == torch.float32


def test_trimming_to_a_multiple() -> None:
    import torch

    from edgeft.models.predict import trim_padding

    mask = torch.zeros(3, 20, dtype=torch.int64)
    mask[0, :5] = mask[1, :9] = 1
    feeds = {"attention_mask": mask, "input_ids": torch.arange(60).reshape(3, 20)}
    widths = {multiple: trim_padding(feeds, multiple)["input_ids"].shape[1] for multiple in (1, 8, 16)}
    assert widths == {1: 9, 8: 16, 16: 16}
    mask[2, :17] = 1
    assert trim_padding(feeds, 8)["input_ids"].shape[1] == 20  # never beyond what there is


def test_round_trip_is_what_a_4_bit_layer_computes_with(world: World) -> None:
    import torch
    from bitsandbytes.functional import dequantize_4bit

    from edgeft.models.nf4 import round_trip_nf4

    plain: Any = load_model(world.base, labels=LABELS, new_head=True)
    packed: Any = load_model(world.base, labels=LABELS, new_head=True, quantise="nf4")
    for name in body_linears(plain):
        weight = packed.get_submodule(name).weight
        assert torch.equal(
            dequantize_4bit(weight.data, weight.quant_state).float(),
            round_trip_nf4(plain.get_submodule(name).weight.data),
        )


def test_heads_of_other_architectures() -> None:
    from transformers import (
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
        DistilBertConfig,
        RobertaConfig,
        ViTConfig,
    )

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    roberta = AutoModelForSequenceClassification.from_config(RobertaConfig(vocab_size=50, **small))
    assert head_modules(roberta) == ("classifier",)
    assert not [name for name in body_linears(roberta) if "classifier" in name]
    distil = AutoModelForSequenceClassification.from_config(
        DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=32)
    )
    assert set(head_modules(distil)) == {"pre_classifier", "classifier"}
    vit = AutoModelForImageClassification.from_config(ViTConfig(image_size=32, patch_size=16, **small))
    assert head_modules(vit) == ("classifier",)


def test_feeds_a_model_does_not_name_are_left_out(feeds: dict[str, Any]) -> None:
    from transformers import AutoModelForSequenceClassification, DistilBertConfig

    distil = AutoModelForSequenceClassification.from_config(
        DistilBertConfig(vocab_size=60, dim=32, n_layers=1, n_heads=2, hidden_dim=32)
    )
    assert predict_logits(distil, feeds).shape == (24, 2)


def test_save_and_reload_is_equal_and_canonical(world: World, feeds: dict[str, Any], tmp_path: Path) -> None:
    module = load_model(world.base, labels=LABELS, new_head=True, seed=4)
    folders = [tmp_path / "one", tmp_path / "elsewhere" / "two"]
    for folder in folders:
        folder.mkdir(parents=True)
        save_transformers(module, folder)
    assert digest_tree(folders[0]) == digest_tree(folders[1])
    again = load_model(Artifact("torch-model", folders[0], "x", {"form": "transformers"}), labels=LABELS)
    assert np.array_equal(predict_logits(module, feeds), predict_logits(again, feeds))
    config = json.loads((folders[0] / "config.json").read_text())
    assert "transformers_version" not in config and "_name_or_path" not in config
    assert config["label2id"] == {"cold": 0, "hot": 1, "wet": 2}


def test_shards_reload(world: World, feeds: dict[str, Any], tmp_path: Path) -> None:
    module = load_model(world.base, labels=LABELS, new_head=True)
    save_transformers(module, tmp_path, shard="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    index = (tmp_path / "model.safetensors.index.json").read_text()
    assert list(json.loads(index)["weight_map"]) == sorted(json.loads(index)["weight_map"])
    again = load_model(Artifact("torch-model", tmp_path, "x", {"form": "transformers"}), labels=LABELS)
    assert np.array_equal(predict_logits(module, feeds), predict_logits(again, feeds))


# Models given as code.

NET = '''
import torch

class Net(torch.nn.Module):
    """A bag of words."""

    def __init__(self, num_labels):
        super().__init__()
        self.words = torch.nn.Embedding(60, 16)
        self.hidden = torch.nn.Linear(16, 16)
        self.norm = torch.nn.BatchNorm1d(16)
        self.out = torch.nn.Linear(16, num_labels)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None].float()
        mean = (self.words(input_ids) * mask).sum(1) / mask.sum(1)
        return self.out(torch.relu(self.norm(self.hidden(mean))))

def build(num_labels):
    return Net(num_labels)

def wrong(num_labels):
    return [num_labels]

def broken(num_labels):
    return 1 / 0
'''


@pytest.fixture
def net(tmp_path: Path) -> Artifact:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "net.py").write_text(NET)
    scope: dict[str, Any] = {}
    exec(NET, scope)
    torch.manual_seed(0)
    save_file(scope["build"](3).state_dict(), tmp_path / "weights.safetensors")
    facts = {"form": "code", "code": f"{tmp_path / 'net.py'}:build", "weights": str(tmp_path / "weights.safetensors")}
    return Artifact("torch-model", tmp_path / "weights.safetensors", "net", facts)


def changed(net: Artifact, **facts: Any) -> Artifact:
    return Artifact(net.kind, net.path, net.digest, {**net.facts, **facts})


def test_code_answers(net: Artifact, feeds: dict[str, Any]) -> None:
    import torch

    module = load_model(net, labels=LABELS)
    assert predict_logits(module, feeds).shape == (24, 3)
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    assert forward_logits(module, tensors).shape == (24, 3)


def test_code_that_does_not_fit_its_weights(net: Artifact) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(net.path)
    state["hiden.weight"] = state.pop("hidden.weight")
    save_file(state, net.path)
    with pytest.raises(StepError, match=r"missing 1: hidden\.weight \(did you mean hiden\.weight\?\); unexpected 1"):
        load_model(net, labels=LABELS)


def test_code_with_another_number_of_labels(net: Artifact) -> None:
    with pytest.raises(StepError, match=r"'out\.\w+' has shape") as caught:
        load_model(net, labels=list("abcd"))
    assert "num_labels" in caught.value.hint


@pytest.mark.parametrize(
    ("function", "message"),
    [("wrong", "returned list"), ("broken", "ZeroDivisionError"), ("bild", "no function 'bild'")],
)
def test_code_that_is_wrong(net: Artifact, function: str, message: str) -> None:
    with pytest.raises(StepError, match=message) as caught:
        load_model(changed(net, code=net.facts["code"].replace(":build", f":{function}")), labels=LABELS)
    if function == "bild":
        assert "build" in caught.value.hint


def test_code_that_does_not_import(net: Artifact, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(StepError, match="ModuleNotFoundError"):
        load_model(changed(net, code=f"{tmp_path / 'bad.py'}:build"), labels=LABELS)


def test_code_weights_must_be_safetensors(net: Artifact, tmp_path: Path) -> None:
    shutil.copy(net.path, tmp_path / "weights.pt")
    with pytest.raises(StepError, match="no safetensors file"):
        load_model(changed(net, weights=str(tmp_path / "weights.pt")), labels=LABELS)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_code_trains_merges_and_stands_alone(
    world: World, net: Artifact, feeds: dict[str, Any], method: str, tmp_path: Path
) -> None:
    made = world.run(
        {"method": method, "epochs": 6, "batch_size": 8, "learning_rate": 0.01}, f"code-{method}", base=net
    )
    if method != "full":
        unmerged = predict_logits(load_model(net, adapter=made, labels=LABELS), feeds)
        made = world.merge(made, given=net, base="quantised" if method == "qlora" else "original")
        assert made.facts["merge"]["candidates"][-1]["kl"] < 1e-4
    assert sorted(path.name for path in made.path.iterdir()) == ["model.safetensors", "net.py"]
    assert made.facts["form"] == "code" and made.facts["code"] == "net.py:build"
    moved = tmp_path / "moved"
    shutil.copytree(made.path, moved)
    Path(net.facts["code"].rpartition(":")[0]).unlink()
    logits = predict_logits(load_model(Artifact("torch-model", moved, made.digest, made.facts), labels=LABELS), feeds)
    if method == "full":
        assert logits.shape == (24, 3)
    else:
        assert np.abs(logits - unmerged).max() < (0.05 if method == "qlora" else 1e-5)


@pytest.mark.parametrize("content", [b"junk" * 9, (1 << 40).to_bytes(8, "little") + b"{}"])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(content)
    with pytest.raises(StepError, match="weights are damaged") as caught:
        fill(torch.nn.Linear(2, 2), weights)
    assert caught.value.where == str(weights)


def test_code_that_exits_does_not_end_the_build_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sys\ndef build(num_labels):\n    sys.exit(0)\n")
    model = Artifact("torch-model", tmp_path, "0", {"form": "code", "code": f"{tmp_path / 'net.py'}:build"})
    with pytest.raises(StepError, match="SystemExit: 0"):
        load_code(model, 2)
