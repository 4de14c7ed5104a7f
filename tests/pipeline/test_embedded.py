"""What may be embedded, and in which artefacts; the rest is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeft.errors import RecipeError
from edgeft.exporter import Unsupported
from edgeft.pipeline import embedded
from edgeft.recipe.load import LoadedRecipe, load_recipe
from edgeft.recipe.schema import Serve

RECIPE = """\
name: tiny
model: {{path: {folder}, task: text-classification}}
data: {{source: csv, path: {folder}/train.csv, text: text, label: label}}
serve: {{batch: {batch}, length: 16, embed_preprocessing: {embed}}}
steps:
  - finetune: {{method: lora}}
targets:
  - {{device: local-cpu, export: [onnx]}}
gates:
  - {{metric: accuracy, at_least: 0.5}}
"""


def load(folder: Path, embed: str, batch: int = 1) -> LoadedRecipe:
    (folder / "train.csv").write_text("text,label\na,b\n")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder, embed=embed, batch=batch))
    return load_recipe(folder / "recipe.yaml")


@pytest.mark.parametrize(
    ("embed", "batch", "words"),
    [
        ("pixels", 1, "a text has no pixels"),
        ("bytes", 1, "a text has no bytes"),
        ("string", 2, "takes one text, serve.batch is 2"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, embed: str, batch: int, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        embedded.check_embedding(load(tmp_path, embed, batch))
    assert "recipe.yaml:4:" in caught.value.render()


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tmp_path, "string")
    monkeypatch.setattr(embedded, "find_spec", lambda name: object())
    embedded.check_embedding(loaded)
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="onnxruntime-extensions is not installed"):
        embedded.check_embedding(loaded)


def test_only_onnx_holds_a_tokenizer() -> None:
    from edgeft_exporters.onnx.exporter import OnnxExporter

    serve = Serve(embed_preprocessing="string")
    other: Any = SimpleNamespace(name="litert")
    embedded.refuse_embedding(OnnxExporter(), serve)
    embedded.refuse_embedding(other, Serve())
    with pytest.raises(Unsupported, match="ONNX artefacts only"):
        embedded.refuse_embedding(other, serve)
