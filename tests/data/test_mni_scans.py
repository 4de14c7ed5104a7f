"""Slices of the template as values with their place: the same slices as the pictures, seen from the patient's feet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeft.data.source import Intake, source_for
from edgeft.errors import RecipeError
from edgeft.medical import order, reference
from edgeft.recipe.schema import Data

MEDICAL = {"window": [0, 255], "invert": True, "orientation": "plane", "spacing": None}
IMAGE = {"height": 192, "width": 80, "source": None, "shortest": None, "channels": 1}
COLUMNS = ["image", "split", "slab", "scanner", "patient", "modality", "spacing"]


def test_they_are_the_pictures_mirrored_left_to_right(tmp_path: Path) -> None:
    """mni-slices draws the patient's right on the right; slices are shown, and answered, with it on the left."""
    pytest.importorskip("nilearn")
    options = {"scanners": ["plain", "noise"]}
    data = Data(source="mni-scans", options=options)
    (tmp_path / "scans").mkdir()
    scans = source_for(data).read_into(data, None, COLUMNS, lambda text: None, Intake(tmp_path / "scans", MEDICAL))
    drawn = Data(source="mni-slices", options={**options, "folder": str(tmp_path / "drawn")})
    (tmp_path / "drawn").mkdir()
    pictures = source_for(drawn).read(drawn, None, ["image", "split", "slab", "scanner"], lambda text: None)
    assert scans.num_rows == pictures.num_rows
    for name in ("split", "slab", "scanner", "present", "label", "patient"):
        assert scans.column(name).to_pylist() == pictures.column(name).to_pylist(), name
    assert set(scans.column("modality").to_pylist()) == {"MR"} and set(scans.column("spacing").to_pylist()) == {"1 1"}
    for place in (0, 1, 47, scans.num_rows - 1):
        ours = reference.pixels(
            Path(scans.column("file")[place].as_py()).read_bytes(), {"medical": MEDICAL, "image": IMAGE}, order
        )
        theirs = np.asarray(Image.open(pictures.column("file")[place].as_py()))
        assert (ours.reshape(192, 80) == theirs[:, ::-1]).all()
        masks = [np.asarray(Image.open(table.column("mask_file")[place].as_py())) for table in (scans, pictures)]
        assert (masks[0] == masks[1][:, ::-1]).all() and masks[0].any()


def test_without_a_column_or_a_folder_it_says_so(tmp_path: Path) -> None:
    data = Data(source="mni-scans")
    with pytest.raises(RecipeError, match="no column 'site'"):
        source_for(data).read_into(data, None, ["site"], lambda text: None, Intake(tmp_path, MEDICAL))
