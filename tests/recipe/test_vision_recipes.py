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
        "vision/base", "vision/digits-mobile", "vision/digits-mobilevit", "vision/digits-pruned", "vision/tissue",
        "vision/tissue-pruned", "vision/tissue-searched",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["digits-mobile", "digits-mobilevit", "digits-pruned", "tissue", "tissue-pruned", "tissue-searched"]
)
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


STEPS_PRUNED = (
    "steps=[{finetune: {method: full, epochs: 2, batch_size: 64, learning_rate: 0.003}},"
    " {prune: {method: structured, ratio: 0.25, heal_steps: 4, heal_distil: true}}]"
)
REDUCED: dict[str, tuple[str, list[str], list[str]]] = {
    "digits-mobile": ("digits-mobile", ["onnx", "openvino"], [
        "data.limit=400", "finetune.epochs=2", "finetune.eval_steps=4", "gates=[{metric: artifact_mb, at_most: 1}]",
    ]),
    "digits-mobile, pruned": ("digits-mobile", ["onnx"], [
        "data.limit=400", STEPS_PRUNED, "gates=[{metric: artifact_mb, at_most: 1}]",
    ]),
    "digits-mobilevit": ("digits-mobilevit", ["onnx", "executorch"], [
        "data.limit=400", "finetune.epochs=1", "finetune.eval_steps=4", "gates=[{metric: artifact_mb, at_most: 2}]",
    ]),
    "digits-pruned": ("digits-pruned", ["onnx"], [
        "data.limit=400", "finetune.epochs=2", "finetune.eval_steps=4", "distill.epochs=1",
        "gates=[{metric: artifact_mb, at_most: 1}]",
    ]),
    "tissue": ("tissue", ["onnx", "litert"], [
        "data.options.scanners=[plain]", "finetune.epochs=2", "gates=[{metric: artifact_mb, at_most: 0.2}]",
    ]),
    "tissue-pruned": ("tissue-pruned", ["onnx"], [
        "data.options.scanners=[plain]", "finetune.epochs=2", "prune.heal_epochs=1",
        "gates=[{metric: artifact_mb, at_most: 0.1}]",
    ]),
}  # fmt: skip
"""What is built: (recipe, exporters, what else is set)."""
MODULES = {"openvino": "nncf", "executorch": "executorch", "litert": "ai_edge_quantizer"}
"""What an exporter needs beyond the core."""


def build_reduced(folder: Path, name: str, sets: list[str]) -> Workbench:
    """A finished build of a few real images and steps."""
    if name.startswith("tissue"):
        pytest.importorskip("nilearn")
    bench = Workbench(folder, folder / "store")
    run = bench.run(
        "build", f"edgeft:vision/{name}", *[word for text in sets for word in ("--set", text)], timeout=1800
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return bench


@pytest.mark.slow
@pytest.mark.ml
@pytest.mark.parametrize("case", sorted(REDUCED))
def test_the_shipped_recipe_builds_reduced(tmp_path: Path, case: str) -> None:
    """Every part of the recipe runs, up to the bundle: every form of every runtime was made and run on this machine."""
    name, exporters, sets = REDUCED[case]
    for module in (MODULES[made] for made in exporters if made in MODULES):
        pytest.importorskip(module)
    bench = build_reduced(tmp_path, name, [*sets, f"targets.0.export=[{','.join(exporters)}]"])
    rows: dict[str, Any] = {row["name"]: row for row in bench.record(name)["targets"][0]["candidates"]}
    assert set(rows) == {f"{made}/{form}" for made in exporters for form in ("float", "int8-static")}
    for row in rows.values():  # rejected: int8 that was no faster than float here, on a machine with other work
        assert row["status"] in ("eligible", "chosen", "rejected") and row["latency"], row
    for made in exporters:
        assert rows[f"{made}/float"]["parity"]["passed"]
        assert rows[f"{made}/int8-static"]["bytes"] < 0.7 * rows[f"{made}/float"]["bytes"], made
    if "prune" in case:
        pruned = bench.record(name)["pruning"]
        assert pruned[-1]["parameters"][1] < 0.78 * pruned[0]["parameters"][0], pruned
        assert pruned[-1]["heals"] or "distill" in load_recipe(f"edgeft:vision/{name}").recipe.steps[-1].name


@pytest.mark.slow
@pytest.mark.ml
def test_the_recipe_that_searches_tries_every_form_for_convolutions(tmp_path: Path) -> None:
    """By size, so that no other process on this machine decides; where plain int8 loses on the slices, others race."""
    pytest.importorskip("nncf")
    sets = [
        "data.options.scanners=[plain]", "finetune.epochs=2", "targets.0.optimise=size", "measure.protocol=none",
        "gates=[{metric: mean_dice, cases_losing: 0.0005, at_most: 0.3}]",
    ]  # fmt: skip
    bench = build_reduced(tmp_path, "tissue-searched", sets)
    target = bench.record("tissue-searched")["targets"][0]
    search = target["search"]
    asked = {f"{row['exporter']}/{row['variant']}": row for row in search["evaluations"]}
    tried = {f"onnx/int8-{form}" for form in ("static", "static-equalised", "static-all", "nncf")}
    tried |= {f"onnx/int8-static-{ranges}" for ranges in ("mse", "minmax", "p99.99", "p99.9", "entropy")}
    tried |= {"openvino/int8-weights", "openvino/int8-static"}
    refused = {name: asked[name]["why"] for name in tried if asked[name]["divergence"] is None}
    assert not refused and asked["onnx/int8-static"]["passes"] is False
    assert search["best"] == target["chosen"] and [row["status"] for row in target["verdicts"]] == ["PASS"]
