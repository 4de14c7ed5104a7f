"""Made-up inputs of every kind, shapes by symbol, and .npz files that are wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeft.artifact import Signature, TensorSpec
from edgeft.errors import RecipeError
from edgeft.targets.profile.inputs import LARGEST_ID, load_feeds, make_feeds, parse_shapes


def text_model(length: int | str = "length", batch: int | str = "batch") -> Signature:
    names = {"input_ids": "int64", "attention_mask": "int64", "token_type_ids": "int32"}
    return Signature({name: TensorSpec(name, kind, (batch, length)) for name, kind in names.items()}, {})


def image_model(*shape: int | str, dtype: str = "float32") -> Signature:
    return Signature({"image": TensorSpec("image", dtype, shape)}, {})


def test_a_text_model_gets_ids_masks_and_segments() -> None:
    feeds = make_feeds(text_model(), {}, None)
    ids, mask, segments = feeds.arrays.values()
    assert ids.shape == (16, 64) and ids.min() >= 0 and ids.max() < LARGEST_ID
    assert set(np.unique(mask)) <= {0, 1} and (np.diff(mask, axis=1) <= 0).all() and mask[:, :32].all()
    assert segments.dtype == np.int32 and not segments.any()
    assert feeds.batch == 1 and "synthetic" in feeds.said and "guessed: length = 64" in feeds.said


def test_the_same_feeds_every_time() -> None:
    first, second = (make_feeds(text_model(), {}, 2).arrays for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


def test_one_stated_shape_settles_a_symbol_everywhere() -> None:
    feeds = make_feeds(text_model(), parse_shapes(["input_ids=2x128"]), None)
    assert {array.shape for array in feeds.arrays.values()} == {(32, 128)} and feeds.batch == 2
    assert "guessed" not in feeds.said


def test_pixels_and_normal_numbers() -> None:
    pixels = make_feeds(image_model(1, 8, 8, 3, dtype="uint8"), {}, None).arrays["image"]
    assert pixels.dtype == np.uint8 and pixels.max() > 200
    normal = make_feeds(image_model("n", 3, 8, 8), {}, 2).arrays["image"]
    assert normal.shape == (32, 3, 8, 8) and abs(float(normal.mean())) < 0.1


def test_huge_inputs_are_fewer() -> None:
    assert len(make_feeds(image_model(1, 3, 1024, 4096), {}, None).arrays["image"]) < 16


@pytest.mark.parametrize(
    ("signature", "shapes", "batch", "said"),
    [
        (image_model("n", 3, "height", "width"), [], None, "leaves dimension 2 of 'image'"),
        (image_model(1, 3, 8, 8), ["image=1x3x9x8"], None, "image is 1x3x8x8, not 1x3x9x8"),
        (image_model(1, 3, 8, 8), [], 4, "the model runs 1 cases at a time"),
        (image_model(1, 3, 8, 8), ["picture=1x3x8x8"], None, "there is no input 'picture'"),
        (text_model(), ["input_ids=1x64", "attention_mask=1x32"], None, "not 1x32"),
        (Signature({}, {}), [], None, "no inputs"),
        (Signature({"x": TensorSpec("x", "float32", ())}, {}), [], None, "single number"),
        (image_model("n", 4, dtype="str"), [], None, "cannot be made up"),
        (image_model(1, "bytes", dtype="uint8"), [], None, "holds a file, which cannot be made up"),
    ],
)
def test_what_cannot_be_made_up_is_explained(
    signature: Signature, shapes: list[str], batch: int | None, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        make_feeds(signature, parse_shapes(shapes), batch)


@pytest.mark.parametrize("text", ["x", "x=", "x=1xa", "x=0x3", "=1x2", "x=-1"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(RecipeError, match="is no shape"):
        parse_shapes([text])


def test_cases_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "cases.npz"
    arrays = {name: np.zeros((5, 8), np.int64) for name in text_model().inputs}
    np.savez(path, **arrays, more=np.zeros(3))
    feeds = load_feeds(path, text_model(), 2)
    assert set(feeds.arrays) == set(arrays) and feeds.batch == 2 and feeds.said == "5 cases from cases.npz, 2 a run"
    with pytest.raises(RecipeError, match="has 5 cases, a run takes 8"):
        load_feeds(path, text_model(), 8)
    with pytest.raises(RecipeError, match="has no array 'image'"):
        load_feeds(path, image_model(1, 2), None)


def test_files_that_are_no_cases(tmp_path: Path) -> None:
    path = tmp_path / "cases.npz"
    for content in (b"", b"not a zip"):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=r"no \.npz of plain arrays"):
            load_feeds(path, text_model(), None)
    np.savez(path, input_ids=np.array([{}], dtype=object))
    with pytest.raises(RecipeError, match=r"no \.npz of plain arrays"):
        load_feeds(path, text_model(), None)
    np.savez(path, **{name: np.zeros((len(name), 2)) for name in text_model().inputs})
    with pytest.raises(RecipeError, match="different numbers of cases"):
        load_feeds(path, text_model(), None)
    with pytest.raises(RecipeError, match=r"no \.npz"):
        load_feeds(tmp_path / "none.npz", text_model(), None)


def test_a_bomb_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeft.targets.profile.inputs.MOST_NPZ", 1 << 20)
    path = tmp_path / "cases.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input_ids.npy", b"\0" * (2 << 20))
    assert path.stat().st_size < 1 << 14
    with pytest.raises(RecipeError, match="holds more than"):
        load_feeds(path, text_model(), None)


def test_more_than_memory_is_refused() -> None:
    signature = Signature({"x": TensorSpec("x", "float32", ("batch", 8))}, {})
    with pytest.raises(RecipeError, match="one run's inputs would take 64") as caught:
        make_feeds(signature, {}, 10**9)
    assert "x 1000000000x8" in caught.value.what
