"""Every form of `model:` goes through: adapter, fine-tuned folder, ONNX file, code with weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.canonical import canonical_json
from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]
STEPS = "steps:\n  - finetune: {method: lora, epochs: 2, batch_size: 16, learning_rate: 0.01, eval_steps: 10, checkpoint_steps: 5}\n"


@pytest.fixture
def trained(workbench: Bench) -> tuple[Workbench, dict[str, Path]]:
    """A workbench whose lora build is finished, and the objects its steps made."""
    bench = workbench()
    assert bench.run("build", "recipe.yaml").returncode == 0
    objects = {}
    for row in bench.record()["steps"]:
        objects[row["id"]] = bench.store / "objects" / row["digest"][:2] / row["digest"]
    return bench, objects


def rewrite(bench: Workbench, model: str) -> None:
    """The same recipe with another `model:` and nothing to train."""
    text = (bench.folder / "recipe.yaml").read_text()
    lines = [line for line in text.replace(STEPS, "").splitlines() if not line.startswith("model:")]
    (bench.folder / "recipe.yaml").write_text("\n".join([*lines, f"model: {model}"]) + "\n")


def passed(bench: Workbench) -> dict[str, object]:
    """Build and return the record of a pass."""
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    return bench.record()


def test_an_existing_adapter(trained: tuple[Workbench, dict[str, Path]], tiny_bert: Path) -> None:
    bench, objects = trained
    rewrite(bench, f"{{path: {tiny_bert}, adapter: {objects['finetune']}}}")
    assert [row["id"] for row in passed(bench)["steps"]][2] == "merge"  # type: ignore[attr-defined]


def test_an_existing_fine_tuned_folder(trained: tuple[Workbench, dict[str, Path]], tiny_bert: Path) -> None:
    bench, objects = trained
    rewrite(bench, f"{{path: {objects['merge']}, tokenizer: {tiny_bert}}}")
    assert passed(bench)["training"] == []


def test_an_onnx_file_with_a_tokenizer_folder(trained: tuple[Workbench, dict[str, Path]], tiny_bert: Path) -> None:
    bench, objects = trained
    rewrite(bench, f"{{onnx: {objects['local-cpu/onnx/float']}/model.onnx, tokenizer: {tiny_bert}}}")
    record = passed(bench)
    assert record["model"]["form"] == "onnx"  # type: ignore[index]


def test_an_onnx_file_cannot_be_trained(trained: tuple[Workbench, dict[str, Path]], tiny_bert: Path) -> None:
    bench, objects = trained
    text = (bench.folder / "recipe.yaml").read_text()
    file = objects["local-cpu/onnx/float"] / "model.onnx"
    (bench.folder / "recipe.yaml").write_text(
        text.replace(f"{{path: {tiny_bert}, task", f"{{onnx: {file}, tokenizer: {tiny_bert}, task")
    )
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 2 and "an ONNX file cannot be trained" in run.stderr


CODE = '''\
import torch


class Bag(torch.nn.Module):
    """Mean of embeddings, one linear layer."""

    def __init__(self, num_labels):
        super().__init__()
        self.table = torch.nn.Embedding(800, 24)
        self.out = torch.nn.Linear(24, num_labels)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).to(self.table.weight.dtype)
        return self.out((self.table(input_ids) * mask).sum(1) / mask.sum(1))


def build(num_labels):
    return Bag(num_labels)
'''


def test_code_with_weights(workbench: Bench, tiny_bert: Path) -> None:
    import runpy

    import torch
    from safetensors.torch import save_file

    bench = workbench()
    (bench.folder / "net.py").write_text(CODE)
    torch.manual_seed(0)
    module = runpy.run_path(str(bench.folder / "net.py"))["build"](3)
    save_file(module.state_dict(), str(bench.folder / "net.safetensors"))
    rewrite(bench, f"{{code: net.py:build, weights: net.safetensors, tokenizer: {tiny_bert}}}")
    record = passed(bench)
    assert record["model"]["form"] == "code"  # type: ignore[index]


def test_run_answers_from_the_bundle_without_torch(trained: tuple[Workbench, dict[str, Path]]) -> None:
    bench, _ = trained
    run = bench.run("run", "out/tiny", "Returns the shortest path between two nodes of a graph.", "--json")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["label"] in {"networkx", "jinja2", "rich"}
    assert 0 < answer["probability"] <= 1
    packed = bench.run("pack", "out/tiny", "--out", "tiny.zip")
    again = bench.run("run", "tiny.zip", "Returns the shortest path between two nodes of a graph.", "--json")
    assert again.stdout == run.stdout, packed.stderr + again.stderr
    seen = bench.run("inspect", "out/tiny")
    assert seen.returncode == 0 and "model.onnx: " in seen.stdout, seen.stderr
    packed = bench.run("profile", "out/tiny", "--pack", "job.zip")
    assert packed.returncode == 0 and "jobs for local-cpu" in packed.stdout, packed.stderr
    model = bench.folder / "out/tiny/targets/local-cpu/model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    tampered = bench.run("run", "out/tiny", "text")
    assert tampered.returncode == 3 and "model.onnx is not the file that was bundled" in tampered.stderr
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    manifest = json.loads(model.with_name("manifest.json").read_text())
    manifest["inputs"]["input_ids"]["name"] = "other"
    model.with_name("manifest.json").write_bytes(canonical_json(manifest, indent=1))
    edited = bench.run("run", "out/tiny", "text")
    assert edited.returncode == 3 and "onnxruntime cannot run it as its manifest says: the model takes" in edited.stderr
    assert "Traceback" not in edited.stderr
