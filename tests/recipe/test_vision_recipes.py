"""The shipped vision recipes: they load from anywhere, cover what they claim, and build when reduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.cli import main
from edgeft.recipe.catalogue import shipped_recipes
from edgeft.recipe.load import load_recipe
from tests.pipeline.conftest import Workbench

ROOT = Path(__file__).parents[2]


def test_every_vision_recipe_is_covered_here() -> None:
    assert {name for name in shipped_recipes() if name.startswith("vision/")} == {
        "vision/base", "vision/digits-mobile", "vision/digits-mobilevit", "vision/tissue", "vision/tissue-pruned",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["digits-mobile", "digits-mobilevit", "tissue", "tissue-pruned"])
def test_a_copy_is_the_same_recipe(project: Path, name: str) -> None:
    """What lies beside a shipped recipe is named by its package, so the copy finds it too."""
    assert main(["recipes", "copy", f"vision/{name}"]) == 0
    assert load_recipe(f"{name}.yaml").recipe == load_recipe(f"edgeft:vision/{name}").recipe


def test_digits_train_from_nothing() -> None:
    recipe = load_recipe("edgeft:vision/digits-mobile").recipe
    assert recipe.model.initialise and Path(recipe.model.path or "").joinpath("config.json").is_file()
    assert not list(Path(recipe.model.path or "").glob("*.safetensors"))
    assert recipe.targets[0].export == ("onnx", "litert", "openvino")


def test_tissue_keeps_slabs_whole_and_says_what_it_is_not() -> None:
    recipe = load_recipe("edgeft:vision/tissue").recipe
    assert (recipe.data.group, recipe.data.split, recipe.data.labels) == ("slab", "split", ("rest", "grey", "white"))
    assert (recipe.model.code or "").endswith("tissue_unet.py:build")
    text = (ROOT / "recipes/vision/tissue.yaml").read_text(encoding="utf-8")
    assert "ONE average" in text and "synthetic" in text


@pytest.mark.ml
def test_the_shipped_network_answers_per_pixel() -> None:
    import torch

    from edgeft.artifact import Artifact
    from edgeft.models.code import load_code

    code = load_recipe("edgeft:vision/tissue").recipe.model.code
    model = Artifact("torch-code", Path(), "x", {"code": code, "initialise": True})
    module = load_code(model, 3, seed=1).eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 1, 192, 80)).shape == (2, 3, 192, 80)
    again = load_code(model, 3, seed=1).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in module.state_dict().items())


REDUCED: dict[str, list[str]] = {
    "digits-mobile": [
        "data.limit=400", "finetune.epochs=2", "finetune.eval_steps=4", "targets.0.export=[onnx]",
        "gates=[{metric: artifact_mb, at_most: 1}]",
    ],
    "digits-mobilevit": [
        "data.limit=400", "finetune.epochs=1", "finetune.eval_steps=4", "targets.0.export=[onnx,executorch]",
        "gates=[{metric: artifact_mb, at_most: 2}]",
    ],
    "tissue": [
        "data.options.scanners=[plain]", "finetune.epochs=2", "targets.0.export=[onnx,litert]",
        "gates=[{metric: artifact_mb, at_most: 0.2}]",
    ],
    "tissue-pruned": [
        "data.options.scanners=[plain]", "finetune.epochs=2", "prune.heal_epochs=1", "targets.0.export=[onnx]",
        "gates=[{metric: artifact_mb, at_most: 0.1}]",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.ml
@pytest.mark.parametrize("name", sorted(REDUCED))
def test_the_shipped_recipe_builds_reduced(tmp_path: Path, name: str) -> None:
    """A few real images and steps: every part of the recipe runs, up to the bundle."""
    if name.startswith("tissue"):
        pytest.importorskip("nilearn")
    bench = Workbench(tmp_path, tmp_path / "store")
    sets = [word for text in REDUCED[name] for word in ("--set", text)]
    run = bench.run("build", f"edgeft:vision/{name}", *sets, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    target = bench.record(name)["targets"][0]
    rows: dict[str, Any] = {row["name"]: row for row in target["candidates"]}
    formats = {"tissue": ["onnx", "litert"], "digits-mobilevit": ["onnx", "executorch"]}.get(name, ["onnx"])
    assert set(rows) == {f"{made}/{form}" for made in formats for form in ("float", "int8-static")}
    assert rows["onnx/float"]["parity"]["passed"]
    assert rows["onnx/int8-static"]["bytes"] < 0.6 * rows["onnx/float"]["bytes"]
    if name == "tissue":
        assert rows["litert/int8-static"]["status"] in ("eligible", "chosen")
    if name == "tissue-pruned":
        pruned = bench.record(name)["pruning"][0]
        assert pruned["parameters"][1] < 0.75 * pruned["parameters"][0], pruned
