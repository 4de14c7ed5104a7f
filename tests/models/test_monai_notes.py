"""What a MONAI bundle states, as people are told it; and sizes that no machine holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import StepError
from edgeft.models.foreign import read_preparation
from tests.models.test_monai_bundle import UNET, given, write_bundle


def test_a_side_that_monai_keeps_is_kept_by_the_recipe_too(tmp_path: Path) -> None:
    steps = [{"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, -1]}]
    assert read_preparation(write_bundle(tmp_path, steps=steps)).spacing == (1.5, 0)
    steps = [{"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, "one"]}]
    said = read_preparation(write_bundle(tmp_path / "text", steps=steps))
    assert said.spacing is None and "Spacing" in said.skipped


def test_what_a_bundle_states_is_told_without_commanding_the_terminal(tmp_path: Path) -> None:
    steps = [
        {"_target_": "Orientationd", "keys": "image", "axcodes": "R\x1b[31mS"},
        {"_target_": "Crop\x1b]0;owned\x07", "keys": "image"},
    ]
    write_bundle(tmp_path, steps=steps)
    assert all(note.isprintable() for note in given(tmp_path, []).about["notes"])


def test_the_axes_of_a_volume_are_told_in_the_recipes_letters(tmp_path: Path) -> None:
    """MONAI's letters begin with the first axis, which holds the slices here; the recipe's letters end with them."""
    steps = [{"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}]
    write_bundle(tmp_path, network={**UNET, "spatial_dims": 3}, steps=steps)
    notes = " ".join(given(tmp_path, ["model.task=volume-segmentation"]).about["notes"])
    assert "to RAS" in notes and "{orientation: SAR}" in notes and "columns before rows" not in notes


@pytest.mark.ml
def test_a_network_larger_than_the_machine_is_refused_before_it_is_built(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    from edgeft.models.load import load_model

    huge = {"_target_": "BasicUNet", "spatial_dims": 2, "out_channels": 3, "features": [60_000] * 6}
    write_bundle(tmp_path, network=huge)
    with pytest.raises(StepError, match=r"its BasicUNet takes [0-9,]+ GB, this machine has"):
        load_model(given(tmp_path, []).model, labels=("rest", "grey", "white"), task="segmentation")
