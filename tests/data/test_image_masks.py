"""Image and mask folders that are wrong, each named by its file; and images made from installed packages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgeft.canonical import digest_file
from edgeft.data.labels import mask_labels
from edgeft.data.rows import to_rows
from edgeft.data.source import fingerprint, source_for
from edgeft.data.sources import mni_slices
from edgeft.data.sources.written import own_folder, write_png
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.recipe.schema import Data

COLUMNS = ("image", "label")
LABELS = ("rest", "part", "other")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Three images of 8 x 6 with masks of the values 0 and 1."""
    from PIL import Image

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 6), (90, 10, 10)).save(tmp_path / "images" / f"{name}.jpg")
        mask = Image.new("L", (8, 6), 0)
        mask.putpixel((3, 3), 1)
        mask.save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def spec_of(root: Path, **more: Any) -> Data:
    return Data(**{"source": "image-masks", "path": str(root), "labels": LABELS, **more})


def refusal(root: Path, **more: Any) -> EdgeftError:
    spec = spec_of(root, **more)
    with pytest.raises(EdgeftError) as caught:
        table = source_for(spec).read(spec, None, ("image", "label", *filter(None, [spec.group])), print)
        mask_labels(to_rows(table, spec, "image", str(root)), spec, None)
    return caught.value


def test_pairs_of_equal_stems(cases: Path) -> None:
    spec = spec_of(cases)
    rows = source_for(spec).read(spec, None, COLUMNS, print).to_pylist()
    assert [(row["image"], row["label"], row["present"]) for row in rows] == [
        (f"images/{name}.jpg", "1", "0 1") for name in "abc"
    ]
    assert (
        mask_labels(to_rows(source_for(spec).read(spec, None, COLUMNS, print), spec, "image", "x"), spec, None)[1]
        == ["part"] * 3
    )


def test_a_mask_of_another_size(cases: Path) -> None:
    from PIL import Image

    Image.new("L", (6, 8)).save(cases / "masks" / "b.png")
    error = refusal(cases)
    assert (error.where, error.what) == (str(cases / "masks" / "b.png"), "the image is 8 x 6, its mask 6 x 8")


def test_a_mask_of_a_turned_photograph_has_the_upright_size(cases: Path) -> None:
    from PIL import Image

    turned = Image.new("RGB", (6, 8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(cases / "images" / "b.jpg", exif=exif)
    spec = spec_of(cases)
    assert source_for(spec).read(spec, None, COLUMNS, print).num_rows == 3


def test_a_value_beyond_the_labels(cases: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 6), 3).save(cases / "masks" / "c.png")
    error = refusal(cases)
    assert error.where == str(cases / "masks" / "c.png")
    assert error.what == "the mask has the value 3, the labels are rest, part, other"


def test_masks_without_named_values(cases: Path) -> None:
    error = refusal(cases, labels=None)
    assert (error.where, error.what) == ("data.labels", "what the values of the masks mean is not known")


@pytest.mark.parametrize(("folder", "lost", "side"), [("masks", "b.png", "masks"), ("images", "a.jpg", "images")])
def test_a_missing_partner(cases: Path, folder: str, lost: str, side: str) -> None:
    (cases / folder / lost).unlink()
    assert refusal(cases).what == f"'{Path(lost).stem}' has no file in {side}/ (1 such)"


def test_two_files_of_one_name(cases: Path) -> None:
    (cases / "images" / "a.png").write_bytes((cases / "masks" / "a.png").read_bytes())
    error = refusal(cases)
    assert (error.where, error.what) == (str(cases / "images"), "two files are called 'a'")


def test_a_colour_mask_and_a_mask_that_is_no_image(cases: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 6)).save(cases / "masks" / "a.png")
    assert (refusal(cases).where, refusal(cases).what) == (str(cases / "masks" / "a.png"), "a mask of mode RGB")
    (cases / "masks" / "a.png").write_text("no image")
    assert (refusal(cases).where, refusal(cases).what) == (
        str(cases / "masks" / "a.png"),
        "cannot be read as an image",
    )


def test_a_folder_without_masks_and_a_table_without_a_case(cases: Path) -> None:
    (cases / "cases.csv").write_text("image,patient\na,p1\nb,p1\n")
    assert refusal(cases, group="patient").what == "cases.csv has no row for 'c'"
    (cases / "cases.csv").write_text("name,patient\na,p1\n")
    error = refusal(cases, group="patient")
    assert (error.where, error.what) == (str(cases / "cases.csv"), "no column 'image'")
    (cases / "masks").rename(cases / "elsewhere")
    assert refusal(cases).what == "there is no folder 'masks'"


def test_digits_where_there_are_no_user_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no os.getuid."""
    monkeypatch.delattr(os, "getuid")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = Data(source="digits", options={"size": 8})
    table = source_for(spec).read(spec, None, COLUMNS, print)
    assert table.num_rows == 1797
    assert Path(table.column("file")[0].as_py()) == tmp_path / "edgeft-digits" / "8" / "0" / "0000.png"
    assert own_folder("digits", str(tmp_path / "x")) == tmp_path / "x"


def test_a_planted_file_is_written_over(tmp_path: Path) -> None:
    from PIL import Image

    wanted, other = Image.new("L", (4, 4), 7), Image.new("L", (4, 4), 9)
    write_png(wanted, tmp_path / "a.png")
    first = (tmp_path / "a.png").read_bytes()
    other.save(tmp_path / "a.png")
    write_png(wanted, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == first
    (tmp_path / "file").write_text("")
    with pytest.raises(StepError, match="cannot be written"):
        write_png(wanted, tmp_path / "file" / "a.png")


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    pytest.importorskip("nibabel")
    pytest.importorskip("nilearn")
    spec = Data(source="mni-slices", options={"folder": str(tmp_path_factory.mktemp("mni"))})
    rows: list[dict[str, str]] = source_for(spec).read(spec, None, ("image", "split", "slab"), print).to_pylist()
    return rows


def test_slabs_of_different_splits_are_far_apart(slices: list[dict[str, str]]) -> None:
    found = {int(row["image"].split("/z")[1][:3]): (row["split"], row["slab"]) for row in slices}
    assert {split for split, _ in found.values()} == {"train", "validation", "calibration", "search", "gate"}
    for one, (split, slab) in found.items():
        near = [found[other] for other in found if abs(one - other) <= 10]
        assert set(near) == {(split, slab)}
    assert len({row["file"] for row in slices}) == len(slices) == 3 * len(found)


def test_only_one_half_is_used_and_scanners_differ(slices: list[dict[str, str]]) -> None:
    """The template is its own mirror image: columns on both sides of its middle would leak across it."""
    import numpy as np
    from PIL import Image

    def pixels(name: str) -> Any:
        return np.asarray(Image.open(next(row["file"] for row in slices if row["image"] == name))).astype(int)

    assert mni_slices.COLUMNS_KEPT.start == mni_slices.SHAPE[0] // 2
    plain = pixels("plain/z060.png")
    assert plain.shape == (192, 80)
    for scanner in ("bias", "noise"):
        assert 2 < np.abs(plain - pixels(f"{scanner}/z060.png")).mean() < 40
    masks = {row["mask_file"] for row in slices if row["image"].endswith("z060.png")}
    mask = np.asarray(Image.open(masks.pop()))
    assert not masks and set(np.unique(mask)) == {0, 1, 2}
    assert plain[mask == 2].mean() > plain[mask == 1].mean() + 20 > plain[mask == 0].mean() + 40


def test_the_fingerprint_names_no_place(slices: list[dict[str, str]], tmp_path: Path) -> None:
    one = fingerprint(Data(source="mni-slices"), digest_file)
    other = fingerprint(Data(source="mni-slices", options={"folder": str(tmp_path)}), digest_file)
    assert one == other and set(one["content"]["files"]) == {"t1", "gm", "wm"}


def test_without_nilearn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.machinery.PathFinder.find_spec", lambda *_: None)
    with pytest.raises(RecipeError) as caught:
        fingerprint(Data(source="mni-slices"), digest_file)
    assert "nilearn" in caught.value.what and caught.value.hint == "pip install 'edgeft[examples]'"
