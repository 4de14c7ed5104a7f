"""The shipped language model recipes: they load from anywhere, and build when reduced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeft.cli import main
from edgeft.recipe.catalogue import shipped_recipes
from edgeft.recipe.load import load_recipe
from tests.pipeline.conftest import Workbench


def test_every_llm_recipe_is_covered_here() -> None:
    ours = {name for name in shipped_recipes() if name.startswith("llm/")}
    assert ours == {"llm/finetuned", "llm/next-word", "llm/smaller"}


def test_a_copy_is_the_same_recipe(project: Path) -> None:
    """What lies beside a shipped recipe is named by its package, so the copy finds it too."""
    assert main(["recipes", "copy", "llm/next-word"]) == 0
    assert load_recipe("next-word.yaml").recipe == load_recipe("edgeft:llm/next-word").recipe


def test_the_model_beside_the_recipe_has_no_weights_and_fits_its_tokenizer() -> None:
    recipe = load_recipe("edgeft:llm/next-word").recipe
    folder = Path(recipe.model.path or "")
    config = json.loads((folder / "config.json").read_text())
    assert recipe.model.initialise and not list(folder.glob("*.safetensors"))
    tokens = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert config["vocab_size"] == len(tokens) == 2048
    assert recipe.serve.length <= config["max_position_embeddings"]


@pytest.mark.ml
def test_a_given_model_is_compressed_as_it_is(
    tiny_llama: Path, text_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL", str(tiny_llama))
    monkeypatch.setenv("DATA", str(text_csv))
    bench = Workbench(tmp_path, tmp_path / "store")
    done = bench.run("build", "edgeft:llm/finetuned", "--set", "measure.protocol=none", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    record = bench.record("finetuned")
    assert not record["training"] and record["targets"][0]["chosen"].startswith("onnx/int")
    (search,) = [target["search"] for target in record["targets"]]
    assert 0 < len(search["evaluations"]) <= 12


SMALLER = [
    "data.options.packages=[networkx, pandas]", "data.options.per_package=120", "finetune.max_steps=2", "words.min_count=8",
    "width.heal_steps=2", "rounded.max_steps=2", "measure.protocol=none", "gates=[{metric: artifact_mb, at_most: 3}]",
]  # fmt: skip
"""A few docstrings and two steps of each training: what is made, not how good it is."""


@pytest.mark.ml
@pytest.mark.parametrize("rank", [4, None])
def test_smaller_drops_words_and_neurons_and_trains_under_rounding(rank: int | None, tmp_path: Path) -> None:
    """By low-rank updates, as shipped, or of all weights."""
    pytest.importorskip("torch_pruning")
    pytest.importorskip("torchao")
    bench = Workbench(tmp_path, tmp_path / "store")
    sets = [*SMALLER, *(["rounded.rank=null"] if rank is None else [])]
    done = bench.run("build", "edgeft:llm/smaller", *(word for text in sets for word in ("--set", text)), timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    record = bench.record("smaller")
    words, width = record["pruning"]
    assert (words["method"], width["method"]) == ("vocabulary", "structured")
    assert words["widths"][0]["before"] == 2048 > 2 * words["widths"][0]["after"]
    assert "tokens kept" in words["notes"][0] and "of the validation tokens" in words["notes"][1]
    assert {(row["kind"], row["before"], row["after"]) for row in width["widths"]} == {("neurons", 512, 384)}
    assert width["heals"][0]["teacher"]["weights"]["logits"] == 0.5
    rounded = record["training"][1]
    assert rounded["step"] == "rounded"
    assert (rounded["trainable_parameters"] < 0.1 * rounded["total_parameters"]) is (rank is not None)
    assert record["targets"][0]["chosen"] == "onnx/int8-dynamic"
    (made,) = [row for row in record["targets"][0]["candidates"] if row["status"] == "chosen"]
    assert made["bytes"] < 1.9e6, "the whole vocabulary and width in int8 are 2.5 MB"


@pytest.mark.ml
@pytest.mark.slow
def test_next_word_learns_and_ships_when_reduced(tmp_path: Path) -> None:
    """A quarter of the texts, 40 steps, by size and untimed."""
    bench = Workbench(tmp_path, tmp_path / "store")
    sets = [
        "data.options.per_package=300", "finetune.max_steps=40", "finetune.eval_steps=20", "measure.protocol=none",
        "gates.0.margin=0.15", "gates.1.at_least=0.005", "gates.2.margin=0.8",
    ]  # fmt: skip
    done = bench.run(
        "build", "edgeft:llm/next-word", *(word for text in sets for word in ("--set", text)), timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = bench.record("next-word")
    first, last = (record["training"][0]["curve"][place]["eval_loss"] for place in (19, -1))
    assert last < first
    told = bench.run("run", "out/next-word", "Returns the number of")
    assert told.returncode == 0 and "(next: " in told.stdout
