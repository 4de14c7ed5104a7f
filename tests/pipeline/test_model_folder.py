"""A model's folder that cannot work is refused before a step runs, at its place in the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import RecipeError
from edgeft.pipeline.given.inputs import resolve_inputs
from edgeft.recipe.load import load_recipe
from edgeft.store import Store

RECIPE = """name: demo
model: {path: MODEL}
data: {source: csv, path: data.csv, text: text, label: label}
steps: STEPS
targets: [{device: local-cpu, export: [onnx]}]
gates: [{metric: accuracy, at_least: 0.5}]
"""
HEADER = b'{"__metadata__": {}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
TRAINS = "[{finetune: {method: lora, max_steps: 1}}]"
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 8
BERT: dict[str, Any] = {"model_type": "bert", "architectures": ["BertModel"]}


def resolve(root: Path, model: str, steps: str = TRAINS) -> None:
    (root / "data.csv").write_text("text,label\na,b\n")
    (root / "recipe.yaml").write_text(RECIPE.replace("MODEL", model).replace("STEPS", steps))
    loaded = load_recipe(str(root / "recipe.yaml"))
    resolve_inputs(loaded, Store(root / "store"), offline=True)


def folder(root: Path, config: dict[str, Any], *, tokenizer: bool = True) -> Path:
    place = root / "models" / "encoder"
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))
    (place / "model.safetensors").write_bytes(WEIGHTS)
    if tokenizer:
        (place / "tokenizer.json").write_text("{}")
    return place


def refusal(root: Path, model: str, steps: str = TRAINS) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        resolve(root, model, steps)
    assert "recipe.yaml:2:" in caught.value.where
    return caught.value


def test_a_sound_folder_is_taken(tmp_path: Path) -> None:
    folder(tmp_path, BERT)
    resolve(tmp_path, "models/encoder")


def test_unknown_architecture(tmp_path: Path) -> None:
    folder(tmp_path, {"model_type": "berd"})
    error = refusal(tmp_path, "models/encoder")
    assert "model_type 'berd' is not one that transformers" in error.what
    assert "net.py:build" in error.hint


def test_no_model_type(tmp_path: Path) -> None:
    folder(tmp_path, {"hidden_size": 8})
    assert "names no model_type" in refusal(tmp_path, "models/encoder").what


def test_no_tokenizer(tmp_path: Path) -> None:
    folder(tmp_path, BERT, tokenizer=False)
    error = refusal(tmp_path, "models/encoder")
    assert error.what.endswith("models/encoder has no tokenizer files")
    assert "tokenizer: FOLDER" in error.hint


def test_no_head_and_nothing_trains_one(tmp_path: Path) -> None:
    folder(tmp_path, BERT)
    error = refusal(tmp_path, "models/encoder", "[]")
    assert "BertModel, without a head for text-classification, and no step trains one" in error.what


def test_mistyped_folder_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    folder(tmp_path, BERT)
    error = refusal(tmp_path, "models/encodr")
    assert "no 'encodr' in it" in error.what
    assert error.hint.startswith("did you mean")
    assert "models/encoder" in error.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read: Expecting value"),
        ("[" * 100_000, "cannot be read: nested too deeply"),
        ("[]", "is no JSON object"),
        ('{"model_type": "bert", "hidden_size": "x"}', "hidden_size: x, which is no size"),
        ('{"model_type": "bert", "num_attention_heads": -1}', "num_attention_heads: -1, which is no size"),
        ('{"model_type": "bert", "num_hidden_layers": 100000000}', "num_hidden_layers: 100000000, which is no size"),
        ('{"model_type": "bert", "vocab_size": 1.5}', "vocab_size: 1.5, which is no size"),
        ('{"model_type": "bert", "id2label": {"a": "b"}}', "id2label that does not map numbers"),
        ('{"model_type": "bert", "id2label": ["a"]}', "id2label that does not map numbers"),
        ('{"model_type": "bert", "architectures": "BertModel"}', "architectures that are no list"),
        ('{"model_type": "bert", "architectures": [3]}', "architectures that are no list"),
    ],
)
def test_a_damaged_config(tmp_path: Path, text: str, said: str) -> None:
    (folder(tmp_path, BERT) / "config.json").write_text(text)
    assert said in refusal(tmp_path, "models/encoder").what


def test_sizes_of_stages_are_lists(tmp_path: Path) -> None:
    folder(tmp_path, {**BERT, "hidden_size": [32, 64], "num_attention_heads": [1, 2], "id2label": {"0": "a"}})
    resolve(tmp_path, "models/encoder")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WEIGHTS[:-1], "it has 96 bytes, its header speaks of 97"),
        (WEIGHTS + b"x", "it has 98 bytes, its header speaks of 97"),
        (WEIGHTS[:40], "its header is cut short"),
        (b"", "its header is cut short"),
        (b"<!DOCTYPE html><html>", "does not begin with a safetensors header"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer; `git lfs pull` fetches"),
        ((9).to_bytes(8, "little") + b'{"a": {}}', "does not say where its tensors lie"),
    ],
)
def test_damaged_weights(tmp_path: Path, content: bytes, said: str) -> None:
    (folder(tmp_path, BERT) / "model.safetensors").write_bytes(content)
    error = refusal(tmp_path, "models/encoder")
    assert "model.safetensors is damaged" in error.what
    assert said in error.what


def test_a_link_to_nowhere_is_no_weights(tmp_path: Path) -> None:
    weights = folder(tmp_path, BERT) / "model.safetensors"
    weights.unlink()
    weights.symlink_to(tmp_path / "nowhere")
    assert "has no safetensors weights" in refusal(tmp_path, "models/encoder").what
