"""LoRA and QLoRA on networks that see: convolutions merge exactly, statistics stay, rows are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.models.load import load_model
from tests.stages.slices import LABELS, Slices

pytest.importorskip("nilearn")
pytestmark = pytest.mark.ml

UNET = (Path(__file__).parents[2] / "recipes/vision/tissue_unet.py").read_text(encoding="utf-8")
STEPS: dict[str, Any] = {"max_steps": 6, "batch_size": 6, "learning_rate": 0.02, "eval_steps": 3}
LORA: dict[str, Any] = {
    **STEPS,
    "method": "lora",
    "rank": 4,
    "alpha": 8,
    "dropout": 0.0,
    "target_modules": "all-layers",
}
ODD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.strided = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.head = nn.Conv2d(8, labels, 1)

    def forward(self, x):
        return self.head(torch.relu(self.up(torch.relu(self.strided(torch.relu(self.depth(self.first(x))))))))

def build(num_labels):
    return Net(num_labels)
"""


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Slices:
    return Slices(tmp_path_factory.mktemp("slices") / "world")


def answers(slices: Slices, model: Artifact, adapter: Artifact | None = None) -> Any:
    import torch

    module = load_model(model, adapter=adapter, labels=LABELS, task="segmentation", compute_dtype="float32", seed=7)
    with torch.inference_mode():
        found = module(
            torch.rand(3, 1 if slices.channels == 1 else 3, 48, 24, generator=torch.Generator().manual_seed(1))
        )
    return getattr(found, "logits", found)


def merge_row(merged: Artifact) -> dict[str, Any]:
    return dict(merged.facts["merge"])


def test_convolutions_of_a_unet_merge_exactly(slices: Slices) -> None:
    """The merged network answers as base and adapter do; only weights of convolutions and the head have changed."""
    import torch
    from safetensors.torch import load_file

    base = slices.train(slices.code(UNET), method="full", **STEPS)
    adapter = slices.train(base, **LORA)
    merged = slices.merge(base, adapter)
    torch.testing.assert_close(answers(slices, merged), answers(slices, base, adapter), rtol=1e-4, atol=1e-5)
    before, after = load_file(base.path / "model.safetensors"), load_file(merged.path / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    weights = {name for name in before if name.endswith("weight") and before[name].ndim == 4}
    assert len(weights) == 11 and moved == {*weights, "head.bias"}
    row = merge_row(merged)
    assert row["candidates"][0]["max_logit_difference"] < 1e-3 and row["candidates"][0]["top1_agreement"] > 0.999


def test_the_merged_unet_scores_as_training_said(slices: Slices) -> None:
    """Statistics of batch normalisation that moved in training and were not merged would show here."""
    base = slices.code(UNET)
    adapter = slices.train(base, **{**LORA, "max_steps": 9})
    said = adapter.facts["training"]["best_metric"]
    merged = slices.merge(base, adapter)
    assert merge_row(merged)["unmerged_value"] == pytest.approx(said, abs=1e-3)
    assert merge_row(merged)["candidates"][0]["metric_value"] == pytest.approx(said, abs=1e-3)


@pytest.mark.parametrize("change", ["dora", "rslora"])
def test_other_forms_of_the_update_merge_exactly_too(slices: Slices, change: str) -> None:
    import torch

    base = slices.code(ODD, "odd.py")
    adapter = slices.train(base, **LORA, **{change: True})
    merged = slices.merge(base, adapter)
    torch.testing.assert_close(answers(slices, merged), answers(slices, base, adapter), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_merged_is_left_out_or_refused_by_name(slices: Slices) -> None:
    base = slices.code(ODD, "odd.py")
    adapter = slices.train(base, **LORA)
    from edgeft.models.adapter import read_config

    config = read_config(adapter.path)
    assert config["target_modules"] == ["net.first", "net.strided"] and config["modules_to_save"] == ["net.head"]
    with pytest.raises(StepError, match="'depth' is a convolution in 8 groups"):
        slices.train(base, **{**LORA, "target_modules": ("first", "depth")})
    with pytest.raises(StepError, match="'up' is a transposed convolution"):
        slices.train(base, **{**LORA, "target_modules": ("up",)})
    with pytest.raises(StepError, match="no linear layer below its head") as caught:
        slices.train(base, **{**LORA, "target_modules": "all-linear"})
    assert "3 convolutions" not in caught.value.hint and "target_modules: all-layers" in caught.value.hint
    with pytest.raises(StepError, match="no linear layer to quantise"):
        slices.train(base, **{**LORA, "method": "qlora"})


def test_qlora_of_a_segformer_is_merged_and_answers_alike(tmp_path: Path) -> None:
    """Attention in 4 bits, the decoder whole: merged on the weights it was trained on, it answers as unmerged."""
    import torch

    from tests.stages.test_teacher_images import segformer

    slices = Slices(tmp_path / "world", channels=3)
    base = slices.folder(segformer((32, 64), 3))
    adapter = slices.train(base, **{**LORA, "method": "qlora", "target_modules": "all-linear"})
    assert adapter.facts["quantised"] == "nf4"
    merged = slices.merge(base, adapter, on="quantised")
    torch.testing.assert_close(answers(slices, merged), answers(slices, base, adapter), rtol=1e-3, atol=1e-3)
    assert [row["base"] for row in merge_row(merged)["candidates"]] == ["original", "quantised"]


def test_only_some_rows_are_trained_on_and_validated(slices: Slices, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.data.table import by_column
    from edgeft.stages.finetune import train
    from edgeft.stages.finetune.data import read_examples

    ctx = slices.context("finetune")
    for wanted, kept in (("bias", {"bias"}), (("bias", "plain"), {"bias", "plain"})):
        for split in ("train", "validation"):
            module = load_model(slices.code(UNET), labels=LABELS, task="segmentation")
            found = read_examples(ctx, split, module, only={"scanner": wanted})
            assert set(found.rows.column(by_column("scanner")).to_pylist()) == kept
            assert len(found) == slices.facts["splits"][split]["n"] * len(kept) // 2
            assert len(found[0]["labels"]) == 1
    read: dict[str, Any] = {}
    monkeypatch.setattr(
        train,
        "read_examples",
        lambda ctx, split, *of, **how: read.setdefault(split, read_examples(ctx, split, *of, **how)),
    )
    row = slices.train(slices.code(UNET), method="full", batch_size=9, epochs=1, only={"scanner": "plain"}).facts[
        "training"
    ]
    assert row["steps"] == 27 // 9 and set(read) == {"train", "validation"}
    for found in read.values():
        assert set(found.rows.column(by_column("scanner")).to_pylist()) == {"plain"}
    with pytest.raises(StepError, match="no row has scanner nobody"):
        slices.train(slices.code(UNET), method="full", **STEPS, only={"scanner": "nobody"})
    with pytest.raises(StepError, match="no column 'site'"):
        slices.train(slices.code(UNET), method="full", **STEPS, only={"site": "a"})


def test_a_network_with_one_module_under_two_names_is_trained_and_saved(slices: Slices) -> None:
    """MONAI's DynUNet registers its blocks twice; a checkpoint of such weights must not be refused."""
    code = UNET + "\n\ndef twice(num_labels):\n    net = UNet(num_labels)\n    net.again = net.down1\n    return net\n"
    model = slices.code(code, "twice.py")
    facts = {**model.facts, "code": str(model.facts["code"]).replace(":build", ":twice")}
    model = Artifact(model.kind, model.path, model.digest, facts)
    trained = slices.train(model, method="full", **{**STEPS, "checkpoint_steps": 2})
    found = load_model(trained, labels=LABELS, task="segmentation")
    assert found.again is found.down1 and trained.facts["training"]["steps"] == 6
