"""MedMNIST files: the official splits kept, hostile archives refused before they are unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeft.data.build import build_dataset, read_split
from edgeft.data.pack import image_bytes
from edgeft.data.patients import default_group
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.recipe.schema import Data
from edgeft.tasks.image_multilabel import ImageMultilabel
from tests.medical.files import medmnist_file

from ..data.kit import ImageTask


def build(out: Path, path: Path, warnings: list[str] | None = None, **more: Any) -> dict[str, Any]:
    out.mkdir(parents=True)
    data: dict[str, Any] = {"source": "medmnist", "path": str(path), "split": "split", "options": {"ungrouped": True}}
    task = more.pop("task", ImageTask())
    spec = Data(**{**data, **more})
    heard = warnings if warnings is not None else []
    return dict(
        build_dataset(
            spec, 7, task, out, model_labels=None, trains=True, validates=True, warn=heard.append,
            progress=lambda *_: None,
        )
    )  # fmt: skip


@pytest.mark.parametrize("rgb", [False, True])
def test_the_official_test_set_is_the_gate_set(tmp_path: Path, rgb: bool) -> None:
    path = medmnist_file(tmp_path / "a.npz", sizes=(120, 90, 60), rgb=rgb)
    facts = build(tmp_path / "out", path, labels=("well", "ill"))
    sizes = {name: about["n"] for name, about in facts["splits"].items()}
    assert (sizes["train"], sizes["gate"]) == (120, 60)
    assert sizes["validation"] + sizes["calibration"] + sizes["search"] == 90 and min(sizes.values()) > 3
    with np.load(path) as arrays:
        wanted = sorted(image.tobytes() for image in arrays["test_images"])
    table = read_split(tmp_path / "out/gate.parquet")
    found = [np.asarray(Image.open(io.BytesIO(raw))) for _, raw in image_bytes(table)]
    assert sorted(image.tobytes() for image in found) == wanted
    assert facts["splits"]["gate"]["classes"] == {"well": 45, "ill": 15}


def test_several_labels_an_image_are_for_multilabel(tmp_path: Path) -> None:
    path = medmnist_file(tmp_path / "a.npz", sizes=(120, 90, 60))
    with np.load(path) as arrays:
        held = dict(arrays)
    draw = np.random.default_rng(4)
    for part in ("train", "val", "test"):
        held[f"{part}_labels"] = draw.integers(0, 2, (len(held[f"{part}_labels"]), 3)).astype(np.uint8)
    np.savez(path, **held)
    names = ("mass", "nodule", "effusion")
    facts = build(tmp_path / "out", path, labels=names, task=ImageMultilabel())
    assert tuple(facts["labels"]) == names
    table = read_split(tmp_path / "out/gate.parquet")
    wanted = sorted(int(row @ [1, 2, 4]) for row in held["test_labels"].astype(int))
    assert sorted(table["label"].to_pylist()) == wanted and {0, 7} <= set(wanted), "none of the labels, and all of them"
    with pytest.raises(StepError, match=r"3 labels an image, data\.labels names 2"):
        build(tmp_path / "again", path, labels=names[:2], task=ImageMultilabel())
    np.savez(path, **{**held, "test_labels": held["test_labels"] + 1})
    with pytest.raises(StepError, match="several labels an image are 0 or 1 each"):
        build(tmp_path / "third", path, labels=names, task=ImageMultilabel())


def test_it_names_no_patients_and_keeps_its_division(tmp_path: Path) -> None:
    path = medmnist_file(tmp_path / "a.npz")
    with pytest.raises(RecipeError, match="does not say which rows are of one patient"):
        default_group(Data(source="medmnist", path=str(path), split="split"))
    with pytest.raises(RecipeError, match="divided already") as caught:
        build(tmp_path / "out", path, split=None)
    assert "split: split" in caught.value.hint
    heard: list[str] = []
    build(tmp_path / "again", path, heard)
    assert any("not grouped by patient" in text for text in heard)


def test_an_image_of_train_in_test_is_an_error(tmp_path: Path) -> None:
    path = medmnist_file(tmp_path / "a.npz")
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed["test_images"][7] = changed["train_images"][3]
    np.savez(path, **changed)
    with pytest.raises(StepError, match="train/000003 in train and test/000007 in gate"):
        build(tmp_path / "out", path)


def hostile(path: Path, name: str) -> Path:
    """A file that is wrong in one way."""
    medmnist_file(path)
    with np.load(path) as arrays:
        held = dict(arrays)
    if name == "objects":
        held["val_images"] = np.array([{}] * 60, dtype=object)
    elif name == "volume":
        held["train_images"] = np.zeros((120, 28, 28, 28), np.uint8)
    elif name == "many labels":
        held["train_labels"] = np.zeros((120, 14), np.uint8)
    elif name == "float":
        held["train_images"] = held["train_images"].astype(np.float32)
    elif name == "count":
        held["train_labels"] = held["train_labels"][:-1]
    elif name == "absent":
        del held["test_labels"]
    np.savez(path, **held)
    if name == "cut":
        path.write_bytes(path.read_bytes()[:-4000])
    return path


FAULTS = {
    "objects": "val_images.npy is an array that is not read", "volume": "images of shape", "float": "images are <f4",
    "many labels": "14 labels an image", "count": "120 images and 119 labels", "absent": "has no test_labels",
    "cut": "not a .npz file",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(EdgeftError) as caught:
        build(tmp_path / "out", hostile(tmp_path / "a.npz", name))
    assert FAULTS[name] in caught.value.what and "a.npz" in caught.value.where


@pytest.mark.parametrize("whole", [True, False])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, whole: bool) -> None:
    """63 MB of zeros in less than 1 MB of archive; or an archive that holds less than its header says."""
    path = medmnist_file(tmp_path / "bomb.npz", sizes=(4, 20, 20))
    with np.load(path) as arrays:
        held = {name: array for name, array in arrays.items() if name != "train_images"}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (80_000, 28, 28)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in held.items():
            raw = io.BytesIO()
            np.lib.format.write_array(raw, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", raw.getvalue())
        archive.writestr("train_images.npy", head.getvalue() + bytes(80_000 * 28 * 28 if whole else 5000))
    assert path.stat().st_size < 1 << 20
    limit = {"max_gb": 0.05} if whole else {}
    with pytest.raises(StepError) as caught:
        build(tmp_path / "out", path, options={"ungrouped": True, **limit})
    said = "unpacks to 0.0628 GB, the limit is 0.05" if whole else "says 62,720,000 bytes and is shorter"
    assert said in caught.value.what
