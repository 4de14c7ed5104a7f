"""What may be embedded, and in which artefacts; the rest is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeft.errors import RecipeError
from edgeft.exporter import Unsupported
from edgeft.pipeline.steps import embedded
from edgeft.pipeline.steps.serve import settle_serve
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


IMAGES = """\
name: tiny
model: {{code: {folder}/net.py:build, initialise: true, task: image-classification}}
data: {{source: image-folder, path: {folder}}}
serve: {{batch: {batch}, height: 16, width: 16, embed_preprocessing: {embed}{more}}}
steps:
  - finetune: {{method: full}}
targets:
  - {{device: local-cpu, export: [onnx]}}
gates:
  - {{metric: accuracy, at_least: 0.5}}
"""


def load(folder: Path, embed: str, batch: int = 1, recipe: str = RECIPE, more: str = "") -> LoadedRecipe:
    (folder / "train.csv").write_text("text,label\na,b\n")
    (folder / "net.py").write_text("")
    (folder / "recipe.yaml").write_text(recipe.format(folder=folder, embed=embed, batch=batch, more=more))
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


@pytest.mark.parametrize(("embed", "recipe"), [("string", RECIPE), ("bytes", IMAGES)])
def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embed: str, recipe: str) -> None:
    loaded = load(tmp_path, embed, recipe=recipe)
    monkeypatch.setattr(embedded, "find_spec", lambda name: object())
    embedded.check_embedding(loaded)
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="onnxruntime-extensions is not installed"):
        embedded.check_embedding(loaded)


@pytest.mark.parametrize(
    ("embed", "batch", "kind", "more", "words"),
    [
        ("string", 1, "torch-model", "", "an image is no text"),
        ("bytes", 2, "torch-model", "", "takes one file, serve.batch is 2"),
        ("bytes", 1, "torch-model", ", source: [20, 20]", "a file states its own size"),
        ("bytes", 1, "onnx", "", "nothing is put in front of it"),
    ],
)
def test_what_does_not_go_together_for_images_is_refused(
    tmp_path: Path, embed: str, batch: int, kind: str, more: str, words: str
) -> None:
    inputs: Any = SimpleNamespace(model=SimpleNamespace(kind=kind))
    with pytest.raises(RecipeError, match=words) as caught:
        settle_serve(load(tmp_path, embed, batch, IMAGES, more), inputs)
    assert "recipe.yaml:4:" in caught.value.render()
    settled = settle_serve(
        load(tmp_path, "bytes", 1, IMAGES), SimpleNamespace(model=SimpleNamespace(kind="torch-model"))
    )  # type: ignore[arg-type]
    assert settled.recipe.serve.embed_preprocessing == "bytes"


@pytest.mark.parametrize("embed", ["string", "bytes"])
def test_only_onnx_holds_what_needs_the_extensions(embed: Any) -> None:
    from edgeft_exporters.onnx.exporter import OnnxExporter

    serve = Serve(embed_preprocessing=embed)
    other: Any = SimpleNamespace(name="litert")
    embedded.refuse_embedding(OnnxExporter(), serve)
    embedded.refuse_embedding(other, Serve())
    with pytest.raises(Unsupported, match="ONNX artefacts only"):
        embedded.refuse_embedding(other, serve)
