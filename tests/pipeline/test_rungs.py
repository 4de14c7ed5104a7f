"""What a build says is left to try where no candidate can pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.pipeline.judging.rungs import next_rung
from edgeft.recipe.load import load_recipe

RECIPE = """\
name: demo
model: {{{model}, task: text-classification}}
data: {{source: csv, path: rows.csv, text: text, label: label}}
steps: [{steps}]
targets:
  - {{device: local-cpu, export: [onnx], optimise: latency{search}}}
gates:
  - {{metric: accuracy, no_worse_than: source, margin: 0.02}}
"""
LORA = "finetune: {method: lora}"
QAT = "finetune: {id: rounded, method: qat}"


@pytest.mark.parametrize(
    ("missed", "steps", "search", "model", "said"),
    [
        ("accuracy", [LORA], "", "path: model", "`search: {}`"),
        ("accuracy", [LORA], ", search: {}", "path: model", "`finetune: {id: rounded, method: qat}`"),
        ("accuracy", [LORA, QAT], ", search: {}", "path: model", ""),
        ("accuracy", [], ", search: {}", "onnx: net.onnx", ""),
        ("latency_p90_ms", [LORA], "", "path: model", "`prune`"),
        ("artifact_mb", [LORA], "", "path: model", "`distill`"),
        ("artifact_mb", [LORA, "prune: {method: depth, drop: 1}"], "", "path: model", ""),
        ("artifact_mb", [], "", "onnx: net.onnx", ""),
        ("", [LORA], "", "path: model", ""),
    ],
)
def test_the_next_rung(missed: str, steps: list[str], search: str, model: str, said: str, tmp_path: Path) -> None:
    text = RECIPE.format(steps=", ".join(f"{{{step}}}" for step in steps), search=search, model=model)
    (tmp_path / "recipe.yaml").write_text(text)
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "net.onnx").write_bytes(b"looked at later")
    recipe = load_recipe(tmp_path / "recipe.yaml").recipe
    found = next_rung(recipe, recipe.targets[0], missed)
    assert (said in found) if said else found == ""
