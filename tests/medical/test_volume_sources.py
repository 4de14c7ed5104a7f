"""NIfTI files as whole volumes: on the declared grid, image and mask alike, patients kept together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.data.build import build_dataset, read_split
from edgeft.data.volumes import volume_masks, volumes
from edgeft.recipe.images import Preprocess
from edgeft.recipe.schema import Data
from tests.medical.files import SIDE, nifti_study

pytest.importorskip("nibabel")
WINDOW = (0, 300)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFT_PSEUDONYM_KEY", "a secret of the tests")


class VolumeTask:
    name, columns = "volume-segmentation", ("image",)


def build(root: Path, out: Path, **preprocess: Any) -> list[tuple[dict[str, Any], Any, Any]]:
    """(row, image, mask) of every case, as the data step of a build leaves them."""
    out.mkdir(parents=True)
    spec = Data(
        source="nifti", path=str(root), labels=("rest", "box"), group="patient", options={"slices": "whole"}, split=None
    )
    facts = build_dataset(
        spec, 7, VolumeTask(), out, model_labels=None, trains=True, by=(),  # type: ignore[arg-type]
        medical=Preprocess(window=WINDOW, **preprocess).medical, warn=print, progress=lambda *_: None,
    )  # fmt: skip
    found = []
    for name in facts["splits"]:
        table = read_split(out / f"{name}.parquet")
        for row, (_, image), (_, mask) in zip(table.to_pylist(), volumes(table), volume_masks(table), strict=True):
            found.append((row, np.array(image), np.array(mask)))
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nifti_study(tmp_path_factory.mktemp("nifti"))


def test_a_row_is_a_volume_in_256_levels(study: Path, tmp_path: Path) -> None:
    import nibabel

    found = build(study, tmp_path / "out", orientation="stored")
    assert len(found) == 12 and len({row["group"] for row, _, _ in found}) == 12
    files = [np.asarray(nibabel.load(path).dataobj) for path in sorted((study / "images").iterdir())]
    wanted = {np.rint(np.clip(file / 300, 0, 1).astype(np.float32) * 255).astype(np.uint8).transpose(2, 1, 0).tobytes() for file in files}  # fmt: skip
    assert {image.tobytes() for _, image, _ in found} == wanted
    for _, image, mask in found:
        assert image.shape == mask.shape == (4, SIDE, SIDE - 4) and mask.sum() == 2 * 10 * 6
        assert image[mask == 1].min() > image[mask == 0].max() - 60


def test_orientation_and_spacing_bring_image_and_mask_to_one_grid(study: Path, tmp_path: Path) -> None:
    plain = build(study, tmp_path / "plain", orientation="RAS")
    turned = build(study, tmp_path / "turned", orientation="LPS", spacing=(1.0, 2.0, 2.0))
    assert {image.shape for _, image, _ in turned} == {(8, SIDE // 2, (SIDE - 4) // 2)}
    by_name = {row["id"]: (image, mask) for row, image, mask in plain}
    for row, image, mask in turned:
        assert image.shape == mask.shape
        first = by_name[row["id"]][1][:, ::-1, ::-1]
        assert abs(mask.sum() * 4.0 - first.sum() * 2.0) < 0.4 * first.sum() * 2.0, "cubic millimetres stay about equal"
        assert image[mask == 1].mean() > image[mask == 0].mean() + 60
