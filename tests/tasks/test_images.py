"""Image preprocessing: the plain path, what is put into the artefact, and what hostile or odd images do."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.errors import RecipeError, StepError
from edgeft.medical.reference import resize_matrix
from edgeft.tasks.image_classification import ImageClassification
from edgeft.tasks.image_spec import ImageServe, ImageSpec, make_spec
from edgeft.tasks.images import decode, fit, to_values

ONE_LEVEL = 1.0 + 1e-9
"""Pillow rounds to 8 bits after each of its two passes, half a level each; the matrices never round."""
FLOAT32 = 2e-6
"""One multiplication and one addition in float32 against float64, on values up to 3 (2^-24 relative each step)."""


def spec(**changes: Any) -> ImageSpec:
    values: dict[str, Any] = {
        "embed": "pixels", "height": 8, "width": 6, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), **changes,
    }  # fmt: skip
    return ImageSpec.model_validate(values)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colour gradients with noise: neither flat nor pure noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = np.stack([127 + 100 * np.sin(x / 9), 255 * y / height, 127 + 90 * np.cos((x + y) / 13)], axis=-1)
    return np.clip(base + random.normal(0, 12, base.shape), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=options.pop("format", "PNG"), **options)
    return stream.getvalue()


def test_the_processors_of_transformers_give_the_same_values() -> None:
    """ViT's own image processor (Pillow form) against this path, from one preprocessor_config.json."""
    pytest.importorskip("torch")
    from transformers import ViTImageProcessorPil

    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    theirs = ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=mean, image_std=std, resample=2)
    pixels = photograph(57, 43)
    expected = np.asarray(theirs(pixels, return_tensors="np")["pixel_values"])
    own = spec(height=32, width=32)
    given = np.asarray(fit(decode(encoded(pixels), 3, "x"), own))[None]
    assert np.abs(to_values(given, own) - expected).max() < FLOAT32


@pytest.mark.parametrize(("given", "wanted"), [(480, 32), (64, 48), (37, 37), (20, 50), (7, 5)])
def test_the_resizing_matrix_is_pillows(given: int, wanted: int) -> None:
    from PIL import Image

    pixels = photograph(given, given, seed=given)
    ours = np.einsum("yh,xw,hwc->yxc", resize_matrix(given, wanted), resize_matrix(given, wanted), pixels.astype(float))
    theirs = np.asarray(Image.fromarray(pixels).resize((wanted, wanted), Image.Resampling.BILINEAR), float)
    assert np.abs(ours - theirs).max() <= ONE_LEVEL
    assert np.abs(ours - theirs).mean() < 0.35


def test_the_wider_side_is_cut_where_the_processor_says_so(tmp_path: Path) -> None:
    stated = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "do_flip_channel_order": True,
              "do_center_crop": True, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    made = make_spec(tmp_path, ImageServe(None, None, None, None))
    assert (made.shortest, made.height, made.width, made.order, made.mean) == (40, 32, 32, "BGR", (0.0, 0.0, 0.0))
    image = fit(decode(encoded(photograph(60, 90)), 3, "x"), made)
    assert image.size == (32, 32)
    values = to_values(np.asarray(image)[None], made)
    assert np.allclose(values[0, 0] * 255, np.asarray(image)[..., 2]), "blue comes first"


def test_phone_photographs_are_turned_upright() -> None:
    from PIL import Image

    pixels = photograph(10, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(encoded(pixels, exif=exif), 3, "x")
    assert image.size == (10, 20)
    assert np.array_equal(np.asarray(image), np.rot90(pixels, -1))


@pytest.mark.parametrize("raw", [b"", b"not an image", encoded(photograph(8, 8))[:60]])
def test_what_is_no_image_is_an_error_with_its_name(raw: bytes) -> None:
    with pytest.raises(StepError) as caught:
        decode(raw, 3, "cats/7.png")
    assert caught.value.where == "cats/7.png"


def test_deep_images_are_refused_instead_of_clipped() -> None:
    with pytest.raises(StepError, match="8 bits"):
        decode(encoded(np.full((4, 4), 4000, np.uint16)), 1, "x")


def test_a_size_that_does_not_fit_is_a_recipe_error(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": 32, "resample": 3}')
    with pytest.raises(RecipeError):
        make_spec(tmp_path, ImageServe(None, None, (0, 10), "pixels"))


@pytest.mark.ml
@pytest.mark.parametrize("changes", [{}, {"order": "BGR"}, {"source": (20, 30)}])
def test_what_is_served_sees_what_the_plain_path_computes(changes: dict[str, Any]) -> None:
    """The module in front of the network against numpy; a wrong mean, order or matrix is off by a hundred times this."""
    import torch

    from edgeft.models.served import serve_image

    own = spec(**changes)
    module = serve_image(torch.nn.Identity(), own, dense=False)
    pixels = np.stack([photograph(*own.given, seed=seed) for seed in (1, 2)])
    with torch.no_grad():
        ours = module(torch.from_numpy(pixels)).numpy()
    plain = to_values(pixels, own)
    limit = 20 * FLOAT32 if own.source else 2 * FLOAT32  # matrix products of 20 and 30 terms round more often
    assert np.abs(ours - plain).max() < limit
    for wrong in ({"mean": (0.456, 0.485, 0.406)}, {"order": "RGB" if own.order == "BGR" else "BGR"}):
        other = to_values(pixels, own.model_copy(update=wrong))
        assert np.abs(ours - other).max() > 100 * limit


def test_a_damaged_preprocessing_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    rows = pa.table({"id": ["a"], "bytes": [encoded(photograph(8, 6))]})
    task = ImageClassification()
    task.prepare(tmp_path, {}, ["a", "b"], {"height": 8, "width": 6}, tmp_path)
    assert task.feeds(rows, tmp_path)["pixels"].shape == (1, 8, 6, 3)
    stated = json.loads((tmp_path / "preprocess.json").read_text())
    for broken in (
        {**stated, "version": 9},
        {**stated, "image": {**stated["image"], "std": [0, 1, 1]}},
        {"kind": "image"},
    ):
        (tmp_path / "preprocess.json").write_text(json.dumps(broken))
        with pytest.raises(StepError):
            task.feeds(rows, tmp_path)
