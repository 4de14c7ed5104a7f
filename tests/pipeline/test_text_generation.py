"""Causal language models through whole builds: fine-tune, merge, prune, export, int8, gates by next tokens, run."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeft.errors import RecipeError
from edgeft.pipeline.build import Options, prepare_build
from edgeft.pipeline.progress import Plain
from edgeft.recipe.load import load_recipe
from edgeft.store import Store
from tests.pipeline.conftest import Workbench, untimed

pytestmark = pytest.mark.ml

STEPS = "  - finetune: {method: full, epochs: 2, batch_size: 16, learning_rate: 0.01, eval_steps: 20, checkpoint_steps: 10}\n"
RECIPE = """\
name: tiny
model: {{path: {model}, task: text-generation}}
data:
  source: csv
  path: {data}
  text: text
  group: group
  unit: row
  fractions: {{train: 0.45, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.25}}
serve: {{batch: 1, length: 24}}
seed: 3
steps:
{steps}targets:
  - {{device: local-cpu, export: [onnx], candidates: [float, int8-dynamic], optimise: size}}
gates:
  - {{metric: token_accuracy, no_worse_than: source, margin: 0.08}}
  - {{metric: token_accuracy, at_least: 0.02}}
  - {{metric: nll, no_worse_than: source, margin: 1, at_worst: 6}}
"""
Bench = Callable[..., Workbench]


@pytest.fixture
def bench(tmp_path: Path, shared_store: Path, text_csv: Path, tiny_llama: Path) -> Bench:
    """bench(steps, replace): a Workbench with the recipe of a tiny Llama."""

    def make(steps: str = STEPS, replace: Sequence[tuple[str, str]] = ()) -> Workbench:
        text = RECIPE.format(model=tiny_llama, data=text_csv, steps=steps)
        for old, new in replace:
            assert old in text, old
            text = text.replace(old, new)
        (tmp_path / "recipe.yaml").write_text(untimed(text))
        return Workbench(tmp_path, shared_store)

    return make


def test_a_text_column_alone_is_enough_for_a_bundle(bench: Bench, tiny_llama: Path) -> None:
    made = bench()
    done = made.run("build", "recipe.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    record = made.record()
    (run,) = record["training"]
    assert run["metric"] == "token_accuracy" and run["curve"][-1]["eval_loss"] < np.log(600) - 0.5
    assert record["data"]["labels"] == []
    (target,) = record["targets"]
    by_name = {row["name"]: row for row in target["candidates"]}
    assert by_name["onnx/float"]["parity"]["passed"] and by_name["onnx/float"]["parity"]["max_abs"] < 1e-4
    assert target["chosen"] == "onnx/int8-dynamic"
    metrics = target["gate_set"]["artefact"]
    assert set(metrics) == {"token_accuracy", "nll", "nll (at worst 6)", "perplexity"}
    assert [verdict["status"] for verdict in target["verdicts"]] == ["PASS"] * 3
    assert "nats" in (made.folder / "out/tiny/report.html").read_text()
    told = made.run("run", "out/tiny", "Return the")
    assert told.returncode == 0 and "(next: " in told.stdout, told.stderr
    answer = json.loads(made.run("run", "out/tiny", "Return the", "--json").stdout)
    chances = [row["probability"] for row in answer["next"]]
    assert len(chances) == 5 and chances == sorted(chances, reverse=True) and answer["continuation"]
    assert _likeliest(made.folder / "out/tiny", tiny_llama, "Return the") == answer["next"][0]["id"]
    assert "pass  golden: 8 cases" in made.run("verify", "out/tiny", "--golden").stdout


def _likeliest(out: Path, model: Path, text: str) -> int:
    """The next token by ONNX Runtime and transformers' tokenizer alone."""
    import onnxruntime
    from transformers import AutoTokenizer

    (file,) = out.rglob("targets/*/model.onnx")
    fed = AutoTokenizer.from_pretrained(model)(text, return_tensors="np")
    names = ("input_ids", "attention_mask")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {name: fed[name].astype(np.int64) for name in names})
    return int(logits[0, -1].argmax())


def test_adapters_are_merged_and_layers_dropped(bench: Bench) -> None:
    """QLoRA on what an earlier step taught: the head is frozen, the merge is measured on tokens, depth by their KL."""
    lora = "  - finetune: {id: adapt, method: qlora, rank: 4, epochs: 1, batch_size: 16, learning_rate: 0.005}\n  - merge: {}\n"
    depth = "  - prune: {method: depth, drop: 1, heal_steps: 20, heal_learning_rate: 0.003, heal_distil: true}\n"
    made = bench(STEPS + lora + depth, [("margin: 0.08", "margin: 0.4"), ("margin: 1,", "margin: 3,")])
    done = made.run("build", "recipe.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    record = made.record()
    assert {row["base"] for row in record["merge"]["candidates"]} == {"original", "quantised"}
    faithful = next(row for row in record["merge"]["candidates"] if row["base"] == "quantised")
    assert faithful["kl"] < 1e-3 and record["merge"]["metric"] == "token_accuracy"
    (pruned,) = record["pruning"]
    assert [score["at"] for score in pruned["scores"]] == ["before", "pruned", "healed"]
    assert pruned["widths"][0]["after"] == 1 and pruned["macs"][1] < pruned["macs"][0]


def test_rare_words_go_and_are_never_printed(bench: Bench) -> None:
    """Rows of table and head are fewer in the file, gates see what that costs, and a continuation holds kept tokens."""
    words = "  - prune: {method: vocabulary, min_count: 40, heal_steps: 10, heal_distil: true}\n"
    made = bench(STEPS + words, [("margin: 0.08", "margin: 0.4"), ("margin: 1,", "margin: 3,")])
    done = made.run("build", "recipe.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    record = made.record()
    (row,) = record["pruning"]
    kept = int(row["notes"][0].split()[0])
    assert row["widths"][0]["after"] == kept + 1 < 450
    assert "of the validation tokens" in row["notes"][1] and row["notes"][1] in _page(made)
    (target,) = record["targets"]
    assert next(row for row in target["candidates"] if row["name"] == "onnx/float")["parity"]["max_abs"] < 1e-4
    answer = json.loads(made.run("run", "out/tiny", "Return the", "--json").stdout)
    (digest,) = [row["digest"] for row in record["steps"] if row["id"] == "prune"]
    (file,) = made.store.glob(f"objects/*/{digest}/**/surgery.json")
    edits = json.loads(file.read_text())["edits"]
    assert [edit["edit"] for edit in edits] == ["vocabulary", "answers"]
    spans = edits[0]["keep"]
    assert sum(end - first for first, end in spans) == kept
    assert all(any(first <= token["id"] < end for first, end in spans) for token in answer["next"])


def _page(made: Workbench) -> str:
    import html

    return html.unescape((made.folder / "out/tiny/report.html").read_text())


REFUSED: list[tuple[list[tuple[str, str]], str, str]] = [
    (
        [("metric: token_accuracy, at_least", "metric: accuracy, at_least")],
        "text-generation has no metric 'accuracy'",
        "token_accuracy",
    ),
    (
        [("metric: token_accuracy, at_least", "metric: perplexity, at_least")],
        "text-generation has no metric 'perplexity'",
        "nll",
    ),
    ([("margin: 1, at_worst: 6", "margin: 1")], "nll has no largest value", ""),
    ([("  text: text\n", "  text: text\n  labels: [a, b]\n")], "text-generation has no labels", "leave it out"),
    ([("  text: text\n", "  text: texxt\n")], "has no column 'texxt'", "did you mean 'text'?"),
    ([("length: 24}", "length: 24, embed_preprocessing: string}")], "takes tokens", "leave it out"),
    (
        [("method: full", "method: full, metric: accuracy")],
        "text-generation has no accuracy",
        "token_accuracy, nll, loss",
    ),
]


@pytest.mark.parametrize(("replace", "what", "hint"), REFUSED, ids=[str(index) for index in range(len(REFUSED))])
def test_what_does_not_fit_is_refused_in_the_first_second(
    bench: Bench, replace: list[tuple[str, str]], what: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(replace=replace)
    monkeypatch.chdir(made.folder)
    with pytest.raises(RecipeError) as caught:
        prepare_build(load_recipe("recipe.yaml"), Store(made.folder / "store"), Options(), Plain(io.StringIO()))
    assert what in caught.value.what and hint in caught.value.hint and "recipe.yaml:" in caught.value.where
