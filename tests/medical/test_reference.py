"""The reference from a decoded slice to pixels: against Pillow and scalar arithmetic, and hostile bytes."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeft.medical import order, reference
from edgeft.tasks.image_spec import ImageServe, ImageSpec, make_spec
from edgeft.tasks.images import given_image

MEDICAL = {"window": [100.0, 612.0], "orientation": "plane", "spacing": None, "invert": True}
AXIAL = np.diag([0.8, 0.8, 2.0, 1.0])[:, [2, 1, 0, 3]]


def stated(medical: dict[str, Any] | None = None, **image: Any) -> dict[str, Any]:
    spec = {"height": 12, "width": 10, "source": None, "shortest": None, "channels": 1, **image}
    return {"image": spec, "medical": {**MEDICAL, **(medical or {})}}


def values(seed: int = 1, rows: int = 12, columns: int = 10) -> Any:
    return np.random.default_rng(seed).integers(-50, 900, (1, rows, columns)).astype(np.int16)


def test_equal_size_is_the_window_alone() -> None:
    raw = reference.pack(values(), AXIAL, False)
    wanted = [[round(min(max((int(v) - 100) / 512, 0), 1) * 255) for v in row] for row in values()[0]]
    found = reference.pixels(raw, stated(), order)
    assert found.shape == (12, 10, 1) and np.abs(found[:, :, 0].astype(int) - np.array(wanted)).max() <= 0


def test_monochrome1_is_inverted_over_the_window() -> None:
    plain = reference.pixels(reference.pack(values(), AXIAL, False), stated(), order)
    inverted = reference.pixels(reference.pack(values(), AXIAL, True), stated(), order)
    assert np.array_equal(inverted, 255 - plain)
    kept = reference.pixels(reference.pack(values(), AXIAL, True), stated({"invert": False}), order)
    assert np.array_equal(kept, plain)


@pytest.mark.parametrize("size", [(30, 44), (7, 9), (12, 25)])
def test_resizing_is_pillows_in_float(size: tuple[int, int]) -> None:
    shown = order.window(values(rows=40, columns=30)[0], 100, 612)
    wanted = np.asarray(Image.fromarray(shown, "F").resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.abs(reference.resize(shown, *size) - wanted).max() < 1e-5, "float32 rounding of two passes"


def test_the_shorter_side_then_the_middle() -> None:
    raw = reference.pack(values(rows=40, columns=24), AXIAL, False)
    found = reference.pixels(raw, stated(height=10, width=10, shortest=12, channels=3), order)
    shown = order.window(values(rows=40, columns=24)[0], 100, 612)
    grown = np.asarray(Image.fromarray(shown, "F").resize((12, 20), Image.Resampling.BILINEAR))
    wanted = np.rint(grown[5:15, 1:11] * 255)
    assert found.shape == (10, 10, 3) and np.abs(found[:, :, 2] - wanted).max() <= 1


def test_tasks_and_reference_are_one(tmp_path: Any) -> None:
    spec = make_spec(tmp_path, ImageServe(12, 10, None, None, MEDICAL))
    assert isinstance(spec, ImageSpec) and spec.filter == "bilinear" and "medical" not in spec.model_dump()
    raw = reference.pack(values(), AXIAL, False)
    wanted = reference.pixels(raw, {"image": spec.model_dump(), "medical": MEDICAL}, order)
    assert np.array_equal(np.asarray(given_image(raw, spec, "case")), wanted)


def test_equal_slices_are_equal_bytes() -> None:
    assert reference.pack(values(), AXIAL, False) == reference.pack(values().copy(), AXIAL.copy(), False)
    found, affine, inverted = reference.unpack(reference.pack(values(), AXIAL, True))
    assert np.array_equal(found, values()) and np.array_equal(affine, AXIAL) and inverted


def archive(names: dict[str, Any], compress: int = zipfile.ZIP_STORED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compress) as made:
        for name, array in names.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, np.asarray(array), allow_pickle=True)
            made.writestr(f"{name}.npy", one.getvalue())
    return raw.getvalue()


GOOD = {"values": values(), "affine": AXIAL, "inverted": np.uint8(0)}


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"PK\x03\x04 no archive", reference.pack(values(), AXIAL, False)[:-30],
        archive({**GOOD, "more": 1}), archive({**GOOD, "values": values()[0]}),
        archive({**GOOD, "values": values().astype(np.float64)}), archive({**GOOD, "affine": AXIAL * np.nan}),
        archive({**GOOD, "values": np.array([[[{}]]], dtype=object)}), archive(GOOD, zipfile.ZIP_DEFLATED),
        archive({**GOOD, "values": np.zeros((1, 3000, 3000), np.int16)}, zipfile.ZIP_DEFLATED),
    ],
)  # fmt: skip
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"slice|arrays|values|affine|Object"):
        reference.unpack(raw)
