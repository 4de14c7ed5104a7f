"""The shipped recipe of volumes: it loads from anywhere, says what its data is not, and its network fits its window."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.cli import main
from edgeft.recipe.load import load_recipe

NAME = "edgeft:medical/tissue-volumes"


def test_a_copy_is_the_same_recipe(project: Path) -> None:
    assert main(["recipes", "copy", "medical/tissue-volumes"]) == 0
    assert load_recipe("tissue-volumes.yaml").recipe == load_recipe(NAME).recipe


def test_it_keeps_slabs_whole_and_says_what_it_is_not() -> None:
    recipe = load_recipe(NAME).recipe
    assert (recipe.data.group, recipe.data.split, recipe.data.labels) == ("slab", "split", ("rest", "grey", "white"))
    text = (Path(__file__).parents[2] / "recipes/medical/tissue-volumes.yaml").read_text(encoding="utf-8")
    assert "ONE average" in text and "synthetic" in text


@pytest.mark.ml
def test_its_network_answers_per_voxel_of_its_window() -> None:
    import torch

    from edgeft.artifact import Artifact
    from edgeft.models.code import load_code

    recipe = load_recipe(NAME).recipe
    serve = recipe.serve
    model = Artifact("torch-code", Path(), "x", {"code": recipe.model.code, "initialise": True})
    with torch.no_grad():
        logits = load_code(model, 3, seed=1).eval()(torch.zeros(1, 1, serve.depth, serve.height, serve.width))  # type: ignore[arg-type]
    assert logits.shape == (1, 3, serve.depth, serve.height, serve.width)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("serve.depth=null", "volume-segmentation needs depth, height and width"),
        ("serve.embed_preprocessing=bytes", "the artefact decodes JPEG and PNG files, not mni-volumes"),
        ("serve.source=[32,32]", "a volume is neither resized nor decoded in the artefact"),
        ("model.task=segmentation", "rows are whole volumes, segmentation takes images"),
        ("data.source=mni-slices", "volume-segmentation takes whole volumes, source mni-slices gives images"),
        ("preprocess.check_against=net.py:build", "whole volumes are prepared when the data is read"),
        ("preprocess.window=null", "which range becomes black to white is not said"),
    ],
)
def test_what_does_not_fit_is_refused_by_a_plan(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, change: str, said: str
) -> None:
    monkeypatch.setenv("EDGEFT_STORE", str(project / "store"))
    assert main(["plan", NAME, "--set", change]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("field", ["depth: 4, height: 4, width: 4", "overlap: 0.5", "empty: 3"])
def test_windows_are_for_volumes_alone(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setenv("EDGEFT_STORE", str(project / "store"))
    Path("own.yaml").write_text(f"name: own\nextends: edgeft:vision/tissue\nserve: {{{field}}}\n")
    assert main(["plan", "own.yaml"]) == 2
    assert "segmentation has no windows" in capsys.readouterr().err
