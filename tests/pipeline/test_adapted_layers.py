"""A misspelt `target_modules` is refused by plan and build before a step runs, and only where that is certain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import RecipeError
from edgeft.models.header import HEADER_LIMIT, weight_shapes
from edgeft.pipeline.given.adapted_layers import check_target_modules
from edgeft.recipe.load import load_recipe
from tests.pipeline.conftest import Workbench

Bench = Callable[..., Workbench]

RECIPE = """name: demo
model: {path: model, task: text-classification}
data: {source: csv, path: data.csv, text: text, label: label}
steps:
STEPS
targets: [{device: local-cpu, export: [onnx]}]
gates: [{metric: accuracy, at_least: 0.5}]
"""
BERT: dict[str, Any] = {"model_type": "bert", "architectures": ["BertModel"]}
NAMES = {
    "embeddings.word_embeddings.weight": [9, 4],
    "encoder.layer.0.attention.self.query.weight": [4, 4],
    "encoder.layer.0.attention.self.query.bias": [4],
    "encoder.layer.0.attention.output.LayerNorm.weight": [4],
    "encoder.layer.0.attention.output.dense.weight": [4, 4],
}


def write_header(path: Path, shapes: Mapping[str, Any]) -> None:
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def check(root: Path, entry: str, config: Mapping[str, Any] | None = BERT, steps: str = "") -> None:
    """The check on `target_modules: [entry]`, of a folder `model` in root that is made where it is not there yet."""
    model = root / "model"
    if not model.exists():
        model.mkdir()
        write_header(model / "model.safetensors", NAMES)
    (root / "data.csv").write_text("text,label\na,b\n")
    steps = steps or f"  - finetune: {{method: qlora, target_modules: ['{entry}']}}"
    (root / "demo.yaml").write_text(RECIPE.replace("STEPS", steps))
    check_target_modules(load_recipe(root / "demo.yaml"), model, config)


def refusal(root: Path, entry: str, config: Mapping[str, Any] | None = BERT, steps: str = "") -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        check(root, entry, config, steps)
    assert f"no layer of this model is called '{entry}'" in caught.value.what
    return caught.value


def test_plan_and_build_refuse_it_without_torch(workbench: Bench) -> None:
    bench = workbench(fresh=True, replace=[("learning_rate: 0.01", "target_modules: [query, qurey]")])
    for command in ("plan", "build"):
        run = bench.run(command, "recipe.yaml")
        assert run.returncode == 2, run.stderr
        assert run.stderr.startswith("error: recipe.yaml:14:")
        assert "steps[0].finetune.target_modules[1]: no layer of this model is called 'qurey'" in run.stderr
        assert "hint: did you mean query?" in run.stderr
    code = "import sys, edgeft.cli as c; c.main(['plan', 'recipe.yaml']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=bench.folder, env=bench.env(), timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "entry",
    [
        "query",
        "attention.self.query",
        "encoder.layer.0.attention.self.query",
        "bert.encoder.layer.0.attention.self.query",  # what the class with a head calls it
        "word_embeddings",
        "LayerNorm",  # a norm, which LoRA cannot adapt
        "classifier",  # in no weight of a bare encoder; the step says that the head trains whole
    ],
)
def test_what_the_step_may_find_is_left_to_it(tmp_path: Path, entry: str) -> None:
    check(tmp_path, entry)


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ("qeury", "did you mean query?"),
        ("attention.query", "did you mean self.query?"),
        ("layer.7.attention.self.query", "layer.0.attention.self.query"),
        ("*.query", "query"),
        (" query", "query"),
    ],
)
def test_certain_mistakes(tmp_path: Path, entry: str, hint: str) -> None:
    error = refusal(tmp_path, entry)
    assert "demo.yaml:5:48 steps[0].finetune.target_modules[0]" in error.where
    assert hint in error.hint


def test_names_that_transformers_changes_as_it_loads(tmp_path: Path) -> None:
    config = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    check(tmp_path, "attention.q_proj", config)  # stored as attention.query by older versions
    check(tmp_path, "attention.query", config)  # the path is not judged
    refusal(tmp_path, "qurey", config)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "nowhere"},
        {"model_type": "../bert"},
        {"model_type": ["bert"]},
        {},
        {**BERT, "quantization_config": {"bits": 4}},
        {"model_type": "upernet", "architectures": ["UperNetForSemanticSegmentation"]},  # a backbone of any kind
    ],
)
def test_an_unknown_architecture_is_not_judged(tmp_path: Path, config: dict[str, Any]) -> None:
    check(tmp_path, "qurey", config)


def test_tables_that_share_a_weight(tmp_path: Path) -> None:
    t5 = {"model_type": "t5", "architectures": ["T5ForSequenceClassification"]}
    check(tmp_path, "decoder.embed_tokens", t5)
    refusal(tmp_path, "decoder.embed_tokns", t5)
    check(tmp_path, "decoder.word_embeddings")


def test_norms_are_no_remedy(tmp_path: Path) -> None:
    assert refusal(tmp_path, "LayerNrm").hint == "layers of this model: word_embeddings, query, dense"


def test_a_network_given_as_code_has_the_names_of_its_weights(tmp_path: Path) -> None:
    refusal(tmp_path, "net.encoder.layer.0.attention.self.qery", None)
    check(tmp_path, "self.query", None)


def test_later_steps_and_other_models(tmp_path: Path) -> None:
    last = "  - finetune: {id: two, method: lora, target_modules: [qurey]}"
    error = refusal(tmp_path, "qurey", steps=f"  - prune: {{method: depth, drop: 1}}\n{last}")
    assert error.where.endswith("steps[1].finetune.target_modules[0]")
    check(tmp_path, "", steps=f"  - distill: {{student: org/other}}\n{last}")  # the student has names of its own


def shards(folder: Path, placed: Mapping[str, Any]) -> None:
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))


def test_shards(tmp_path: Path) -> None:
    names = list(NAMES)
    shards(tmp_path / "model", {name: f"{place % 2}.safetensors" for place, name in enumerate(names)})
    check(tmp_path, "qurey")  # shards are missing: nothing is known
    for part in (0, 1):
        write_header(
            tmp_path / "model" / f"{part}.safetensors", {n: NAMES[n] for i, n in enumerate(names) if i % 2 == part}
        )
    check(tmp_path, "query")
    assert refusal(tmp_path, "qurey").hint == "did you mean query?"


def test_only_files_beside_the_index_are_opened(tmp_path: Path) -> None:
    write_header(tmp_path / "outside.safetensors", NAMES)
    for number, name in enumerate(
        ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "", "..", 3, "a\0")
    ):
        shards(tmp_path / str(number), {"a.weight": name})
        assert weight_shapes(tmp_path / str(number)) is None


BROKEN = [
    b"",
    b"\x09",
    b"\xff" * 64,
    (HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}",
    (20).to_bytes(8, "little") + b'{"a": {"shape": ',
    (4).to_bytes(8, "little") + b"[[]]",
    (20).to_bytes(8, "little") + b'{"a": {"shape": 1}} ',
    (100_000).to_bytes(8, "little") + b"[" * 100_000,
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_is_no_safetensors_is_left_to_the_step(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(content)
    assert weight_shapes(tmp_path / "model") is None
    check(tmp_path, "qurey")


def test_a_broken_index_is_left_to_the_step(tmp_path: Path) -> None:
    for number, text in enumerate(("", "[]", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.safetensors.index.json").write_text(text)
        assert weight_shapes(folder) is None


CONVOLUTIONS = {"down.0.weight": [8, 1, 3, 3], "down.1.weight": [8], "head.weight": [3, 8, 1, 1]}


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ("method: qlora, target_modules: all-layers", "this network has none", "method: lora"),
        ("method: lora", "no linear layer to adapt", "target_modules: all-layers"),
    ],
)
def test_a_network_of_convolutions_is_refused_where_linear_layers_are_needed(
    tmp_path: Path, options: str, what: str, hint: str
) -> None:
    (tmp_path / "model").mkdir()
    write_header(tmp_path / "model/model.safetensors", CONVOLUTIONS)
    with pytest.raises(RecipeError, match=what) as caught:
        check(tmp_path, "", None, f"  - finetune: {{{options}}}")
    assert hint in caught.value.hint
    check(tmp_path, "", None, "  - finetune: {method: lora, target_modules: all-layers}")
