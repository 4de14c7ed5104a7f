"""Pruning in a whole build: prune, heal, export, int8, gates; and a latency budget that becomes a ratio."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.errors import RecipeError
from edgeft.pipeline.build import Options, prepare_build
from edgeft.pipeline.progress import Plain
from edgeft.recipe.load import load_recipe
from edgeft.store import Store
from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml

Bench = Callable[..., Workbench]
TRAIN = "steps:\n  - finetune: {method: lora, epochs: 2, batch_size: 16, learning_rate: 0.01, eval_steps: 10, checkpoint_steps: 5}\n"


def with_prune(*options: str) -> list[tuple[str, str]]:
    """The workbench recipe with pruning steps after its fine-tuning."""
    return [(TRAIN, TRAIN + "".join(f"  - prune: {{{text}}}\n" for text in options))]


def test_prune_heal_quantise_in_one_recipe(workbench: Bench) -> None:
    bench = workbench(
        replace=[
            *with_prune(
                "id: words, method: vocabulary, min_count: 2",
                "id: layers, method: depth, drop: 1",
                "id: width, method: structured, ratio: 0.5, heal_steps: 20, heal_learning_rate: 0.003, heal_distil: true",
            ),
            ("export: [onnx]", "export: [onnx], candidates: [int8-dynamic]"),
            ("margin: 0.08", "margin: 0.4"),  # half of a tiny net, after twenty steps: what is shown is the wiring
        ]
    )
    done = bench.run("build", "recipe.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    record = bench.record()
    assert [row["step"] for row in record["pruning"]] == ["words", "layers", "width"]
    words, layers, width = record["pruning"]
    assert (
        words["parameters"][1] < words["parameters"][0] and "validation rows hold a dropped token" in words["notes"][0]
    )
    assert layers["macs"][1] < layers["macs"][0]
    assert [score["at"] for score in width["scores"]] == ["before", "pruned", "healed"]
    assert width["heals"][0]["teacher"]["weights"]["logits"] == 0.5
    candidates = record["targets"][0]["candidates"]
    plain = next(row for row in candidates if row["name"] == "onnx/float")
    # The float artefact of the pruned network answers as the pruned torch model does, ids it never kept included.
    assert plain["parity"]["passed"]
    assert next(row["status"] for row in candidates if row["name"] == "onnx/int8-dynamic") == "chosen"
    assert "Pruning" in (bench.folder / "out/tiny/report.html").read_text()


@pytest.mark.slow
def test_a_latency_budget_becomes_a_ratio(workbench: Bench) -> None:
    """Timed for real; how fast this machine is does not matter: the budgets are out of all reach, and met by anything."""
    easy = "method: structured, target_latency_ms: 10000, parts: [neurons]"
    static = ("export: [onnx]", "export: [onnx], candidates: [int8-static]")
    bench = workbench(replace=[*with_prune(easy), static])
    done = bench.run("build", "recipe.yaml", "--to", "prune")
    assert done.returncode == 0, done.stderr
    (row,) = bench.record()["pruning"]
    assert row["search"]["ratio"] == 0 and row["parameters"][0] == row["parameters"][1]
    (trial,) = row["search"]["trials"]
    assert trial["ratio"] == 0 and trial["p50_ms"] > 0 and trial["runs"] >= 64
    assert row["search"]["candidate"] == "onnx/int8-static" and row["search"]["device"] == "local-cpu"
    hard = workbench(replace=with_prune(easy.replace("10000", "0.0001")))
    done = hard.run("build", "recipe.yaml", "--to", "prune")
    assert done.returncode == 3
    assert "no ratio brings onnx/int8-dynamic on local-cpu to 0.0001 ms" in done.stderr and "hint:" in done.stderr


REFUSED: list[tuple[list[tuple[str, str]], str, str]] = [
    (with_prune("method: structrued, ratio: 0.2"), "unknown method 'structrued'", "did you mean 'structured'?"),
    (with_prune("method: structured, ratoi: 0.2"), "unknown key 'ratoi'", "did you mean 'ratio'?"),
    (with_prune("method: structured, ratio: 1.4"), "must be below 1, got 1.4", ""),
    (with_prune("method: structured"), "give ratio, or target_latency_ms", ""),
    (with_prune("method: magnitude, ratio: 0.5, heal_steps: 5, heal_method: lora"), "lora would fill the zeros", ""),
    (with_prune("method: wanda, pattern: '2:4', ratio: 0.5"), "2:4 has its own", ""),
    (
        with_prune("method: structured, target_latency_ms: 5, latency_device: locl-cpu"),
        "no target is called 'locl-cpu'",
        "did you mean 'local-cpu'?",
    ),
    (
        with_prune("method: structured, target_latency_ms: 5, latency_candidate: onnx/int8"),
        "has no candidate 'onnx/int8'",
        "did you mean",
    ),
    (
        [
            *with_prune("method: structured, target_latency_ms: 5, latency_candidate: onnx/int8-dynamic"),
            ("export: [onnx]", "export: [onnx], candidates: [int8-static]"),
        ],
        "local-cpu has no candidate 'onnx/int8-dynamic'",
        "did you mean 'onnx/int8-static'?",
    ),
    (
        [
            *with_prune("method: structured, target_latency_ms: 5"),
            ("device: local-cpu, export: [onnx]", "device: haswell-emulated, export: [onnx]"),
        ],
        "haswell-emulated cannot be timed by a build",
        "give ratio",
    ),
    (
        [(TRAIN, "steps:\n  - structured: {ratio: 0.2}\n")],
        "unknown step 'structured'",
        "structured is a method of prune",
    ),
]


@pytest.mark.parametrize(("replace", "what", "hint"), REFUSED, ids=[str(index) for index in range(len(REFUSED))])
def test_mistakes_are_refused_before_anything_runs(
    workbench: Bench, replace: list[tuple[str, str]], what: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(workbench(replace=replace), monkeypatch)
    assert what in said.what and hint in said.hint and "recipe.yaml:" in said.where


QAT = TRAIN + "  - finetune: {id: rounded, method: qat, max_steps: 4}\n"


@pytest.mark.parametrize(
    ("replace", "module", "extra"),
    [(with_prune("method: structured, ratio: 0.2"), "torch_pruning", "prune"), ([(TRAIN, QAT)], "torchao", "qat")],
)
def test_a_package_that_a_step_needs_is_missed_before_anything_runs(
    workbench: Bench, replace: list[tuple[str, str]], module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeft.pipeline.checks import preflight

    found = preflight.find_spec
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name == module else found(name))
    said = refusal(workbench(replace=replace), monkeypatch)
    assert f"needs {module}, which is not installed" in said.what and f"edgeft[{extra}]" in said.hint


def test_an_onnx_file_cannot_be_pruned(workbench: Bench, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = workbench(replace=[(TRAIN, "steps:\n  - prune: {method: structured, ratio: 0.2}\n")])
    (bench.folder / "net.onnx").write_bytes(b"")
    text = (bench.folder / "recipe.yaml").read_text()
    given = f"{{onnx: net.onnx, tokenizer: {tiny_bert}, task"
    (bench.folder / "recipe.yaml").write_text(text.replace(f"{{path: {tiny_bert}, task", given))
    said = refusal(bench, monkeypatch)
    assert "prune takes torch-model, but at this point the model is an ONNX file" in said.what


def refusal(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> RecipeError:
    """What is said of the bench's recipe before a step runs."""
    monkeypatch.chdir(bench.folder)
    with pytest.raises(RecipeError) as caught:
        prepare_build(load_recipe("recipe.yaml"), Store(bench.folder / "store"), Options(), Plain(io.StringIO()))
    return caught.value


IMAGES = """\
name: tiny
model: {code: net.py:build, initialise: true, task: image-classification}
data: {source: digits, options: {size: 16, folder: digits}, fractions: {train: 0.5, validation: 0.1, calibration: 0.05, search: 0.1, gate: 0.25}}
serve: {batch: 1, height: 16, width: 16}
seed: 3
steps:
  - finetune: {method: full, max_steps: 120, batch_size: 32, learning_rate: 0.01}
  - prune: {method: structured, ratio: 0.5, importance: taylor, spread: global, heal_steps: 30, heal_learning_rate: 0.005}
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], candidates: [int8-static], optimise: size}
gates:
  - {metric: accuracy, no_worse_than: source, margin: 0.2}
"""
NET = '''\
import torch


class Net(torch.nn.Module):
    """Two convolutions with a shortcut around the second."""

    def __init__(self, num_labels):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(16)
        self.inner = torch.nn.Conv2d(16, 24, 3, padding=1)
        self.outer = torch.nn.Conv2d(24, 16, 3, padding=1)
        self.head = torch.nn.Linear(16, num_labels)

    def forward(self, pixel_values):
        x = torch.relu(self.norm(self.stem(pixel_values)))
        return self.head(torch.relu(x + self.outer(torch.relu(self.inner(x)))).amax((2, 3)))


def build(num_labels):
    return Net(num_labels)
'''


def test_an_image_network_given_as_code_is_pruned_and_healed(workbench: Bench) -> None:
    """Its outcome's folder holds the code as it was, the edits, and weights that fit the code only after them."""
    bench = workbench()
    (bench.folder / "recipe.yaml").write_text(IMAGES)
    (bench.folder / "net.py").write_text(NET)
    done = bench.run("build", "recipe.yaml", "--to", "prune")
    assert done.returncode == 0, done.stderr
    (row,) = bench.record()["pruning"]
    scores = {score["at"]: score["value"] for score in row["scores"]}
    assert scores["before"] > 0.8 and scores["healed"] > 0.6
    assert row["macs"][1] < 0.75 * row["macs"][0]
    assert sum(width["after"] for width in row["widths"]) == sum(width["before"] for width in row["widths"]) // 2
    assert {width["kind"] for width in row["widths"]} == {"channels"}
