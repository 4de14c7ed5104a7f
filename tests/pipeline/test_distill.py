"""Distillation in a build: who teaches whom, what enters the key, what is refused before anything runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]

FINETUNE = "  - finetune: {method: lora, epochs: 2, batch_size: 16, learning_rate: 0.01, eval_steps: 10, checkpoint_steps: 5}\n"
SHORT = "epochs: 2, batch_size: 16, learning_rate: 0.003, hidden_weight: 0.2"
TARGET = "export: [onnx], optimise: size}"
LOOSE = ("margin: 0.08", "margin: 0.2")
"""A tiny net of one layer after two short passes: what is tested here is the wiring, not how well it learns."""


def distilled(workbench: Bench, options: str, name: str = "distill", **rest: Any) -> Workbench:
    step = f"{FINETUNE}  - {name}: {{{options}}}\n"
    small = (TARGET, "export: [onnx], candidates: [float, int8-dynamic], optimise: size}")
    return workbench(replace=[(FINETUNE, step), small, LOOSE], **rest)


def small_student(folder: Path, tiny_bert: Path, **changes: Any) -> Path:
    """A one-layer, narrower BERT beside the tokenizer of tiny_bert."""
    import torch
    from transformers import BertConfig, BertModel

    folder.mkdir()
    torch.manual_seed(1)
    shape = {
        "vocab_size": 800,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    BertModel(BertConfig(**{**shape, "max_position_embeddings": 64, **changes})).save_pretrained(folder)
    for path in tiny_bert.glob("tokenizer*.json"):
        shutil.copy(path, folder)
    return folder


def test_a_shallower_copy_learns_from_the_unmerged_model(workbench: Bench) -> None:
    """The step depends on the teacher's base and adapter, and on the merged model its student began as."""
    bench = distilled(workbench, f"{SHORT}, student_layers: 1")
    run = bench.run("build", "recipe.yaml", "--to", "distill")
    assert run.returncode == 0, run.stdout + run.stderr
    record = bench.record()
    assert [row["id"] for row in record["steps"]][:5] == ["data", "prepare", "finetune", "merge", "distill"]
    tuned, taught = record["training"]
    assert taught["method"] == "distill" and taught["teacher"]["student_layers"] == [1]
    assert taught["teacher"]["layer_map"] == [[0, 0], [1, 2]] and taught["teacher"]["projected"] == []
    assert taught["total_parameters"] < tuned["total_parameters"]
    page = (bench.folder / "out/tiny/report.html").read_text()
    assert "hidden states (mse; layers 0-0, 1-2)" in page and "It began as layer 1 of the model" in page
    key = next(row["key"] for row in record["steps"] if row["id"] == "distill")
    material = json.loads((bench.store / "steps" / f"{key}.json").read_text())["material"]
    assert set(material["inputs"]) == {"model", "prepared", "teacher", "teacher_adapter"}
    digests = bench.digests()
    assert material["inputs"]["teacher_adapter"] == digests["finetune"]
    assert material["inputs"]["model"] == digests["merge"]


@pytest.mark.slow
def test_gates_compare_with_the_teacher(workbench: Bench) -> None:
    bench = distilled(workbench, f"{SHORT}, student_layers: 1")
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    record = bench.record()
    source = next(row["key"] for row in record["steps"] if row["id"] == "source/search")
    inputs = json.loads((bench.store / "steps" / f"{source}.json").read_text())["material"]["inputs"]
    assert set(inputs) == {"adapter", "base", "prepared"} and inputs["adapter"] == bench.digests()["finetune"]
    assert "int8" in record["targets"][0]["chosen"]
    again = bench.run("build", "recipe.yaml", "--set", "distil.temperature=3.0", "--to", "distill")
    assert again.returncode == 0, again.stderr
    states = {row["id"]: row["state"] for row in bench.record()["steps"]}
    assert (states["finetune"], states["merge"], states["distill"]) == ("cached", "cached", "ran")


def test_another_checkpoint_counts_by_its_content(workbench: Bench, tiny_bert: Path, tmp_path: Path) -> None:
    student = small_student(tmp_path / "student", tiny_bert)
    bench = distilled(workbench, f"{SHORT}, student: ./student", name="distil")
    assert bench.run("build", "recipe.yaml", "--to", "distill").returncode == 0
    taught = bench.record()["training"][1]
    assert taught["teacher"]["projected"] == [0, 1] and taught["teacher"]["layer_map"] == [[0, 0], [1, 2]]
    digest = bench.digests()["distill"]
    folder = bench.store / "objects" / digest[:2] / digest
    assert (folder / "tokenizer.json").is_file()
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 16
    student.rename(tmp_path / "moved")
    run = bench.run("build", "recipe.yaml", "--to", "distill", "--set", "distill.student=./moved")
    assert run.returncode == 0, run.stderr
    assert {row["id"]: row["state"] for row in bench.record()["steps"]}["distill"] == "cached"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"vocab_size": 700}, "it knows 700 tokens, the recipe's tokenizer makes numbers up to 799"),
        ({"max_position_embeddings": 16}, "it takes 16 tokens, serve.length is 32"),
    ],
)
def test_a_student_that_cannot_read_the_feeds(
    workbench: Bench, tiny_bert: Path, tmp_path: Path, changes: dict[str, int], text: str
) -> None:
    small_student(tmp_path / "student", tiny_bert, **changes)
    bench = distilled(workbench, f"{SHORT}, student: ./student")
    run = bench.run("plan", "recipe.yaml")
    assert run.returncode == 2 and text in run.stderr
    assert "recipe.yaml:15:" in run.stderr and "steps[1].distill.student" in run.stderr


def test_a_student_with_another_tokenizer(workbench: Bench, tiny_bert: Path, tmp_path: Path) -> None:
    student = small_student(tmp_path / "student", tiny_bert)
    text = (student / "tokenizer.json").read_text(encoding="utf-8")
    content = json.loads(text)
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[100:102]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (student / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    bench = distilled(workbench, f"{SHORT}, student: ./student")
    run = bench.run("plan", "recipe.yaml")
    assert run.returncode == 2 and "its tokenizer is another one than the recipe's model has" in run.stderr
    assert "has another number" in run.stderr
    content = json.loads(text) | {
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    }
    (student / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert bench.run("plan", "recipe.yaml").returncode == 0, "cutting is the recipe's business"


@pytest.mark.parametrize(
    ("student", "text"),
    [("./nope", "no folder './nope'"), ("org/name", "is not on this machine and the build is offline")],
)
def test_a_student_that_is_not_there(workbench: Bench, student: str, text: str) -> None:
    bench = distilled(workbench, f"student: {student}")
    run = bench.run("build", "recipe.yaml", "--offline")
    assert run.returncode == 2 and text in run.stderr and "distill.student" in run.stderr


def test_a_teacher_must_have_been_taught(workbench: Bench) -> None:
    bench = workbench(replace=[(FINETUNE, "  - distill: {student_layers: 1}\n")])
    run = bench.run("plan", "recipe.yaml")
    assert run.returncode == 2
    assert "distill needs a fine-tuned teacher, and nothing is fine-tuned at this point" in run.stderr


def test_too_many_layers(workbench: Bench) -> None:
    bench = distilled(workbench, "student_layers: 2")
    run = bench.run("build", "recipe.yaml", "--to", "distill")
    assert run.returncode == 3 and "student_layers: 2 asked for, the model has 2 already" in run.stderr


@pytest.mark.slow
def test_two_processes_distil_together(workbench: Bench) -> None:
    bench = distilled(workbench, f"{SHORT}, student_layers: 1", fresh=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*launcher, "-m", "edgeft", "build", "recipe.yaml", "--to", "distill"], cwd=bench.folder,
        env={**bench.env(), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert [row["steps"] for row in bench.record()["training"]] == [28, 28]
