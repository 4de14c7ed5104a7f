"""The declared order after the reader: pure functions, proved on arrays whose answer is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.medical import order
from edgeft.medical.order import MedicalSpec, prepare, prepare_mask, quantise, resample, restore_mask, window

KEEP = MedicalSpec(orientation="")
OBLIQUE = np.array([[0.0, 0.2, 0.78, 5], [-2.9, 0.1, 0.1, 6], [0.1, -0.97, 0.15, 7], [0, 0, 0, 1]])


def some(shape: tuple[int, ...] = (5, 6, 7)) -> Any:
    return np.random.default_rng(3).normal(0, 100, shape).astype(np.float32)


def places(shape: tuple[int, ...], affine: Any) -> Any:
    """(voxels, 3) mm of every voxel, in the array's order."""
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index).T + affine[:3, 3]


def test_it_needs_numpy_alone(tmp_path: Path) -> None:
    """The file is copied into bundles: it must run without edgeft."""
    copy = tmp_path / "order.py"
    copy.write_bytes(Path(order.__file__).read_bytes())
    program = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1]); import order\n"
        "spec = order.MedicalSpec.from_dict({'window': [0, 10], 'spacing': [0, 1, 1]})\n"
        "print(order.prepare(np.full((1, 4, 4), 5.0), np.eye(4), True, spec)[0].mean())\n"
        "assert not any(name.split('.')[0] == 'edgeft' for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(Path(np.__file__).parents[1])!r})\n{program}", str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) == 0.5


def test_the_window_is_fixed_and_clipped() -> None:
    values = np.array([[[-2000, -1000, 0, 1000, 3000]]], np.int16)
    np.testing.assert_allclose(window(values, -1000, 1000), [[[0, 0, 0.5, 1, 1]]])
    with_bright_pixel = np.append(values, 30000).reshape(1, 1, 6)
    np.testing.assert_array_equal(window(with_bright_pixel, -1000, 1000)[..., :5], window(values, -1000, 1000))


def test_inversion_is_over_the_window_not_the_image() -> None:
    values = np.array([[[0, 25, 50]]], np.int16)
    spec = MedicalSpec(window=(0, 100), orientation="")
    shown, _ = prepare(values, np.eye(4), True, spec)
    np.testing.assert_allclose(shown, [[[1, 0.75, 0.5]]])
    kept, _ = prepare(values, np.eye(4), True, MedicalSpec((0, 100), "", None, invert=False))
    np.testing.assert_allclose(kept, [[[0, 0.25, 0.5]]])


def test_monochrome1_without_a_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="MONOCHROME1"):
        prepare(some(), np.eye(4), True, KEEP)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LIP", "SPR", "plane", ""])
@pytest.mark.parametrize("affine", [OBLIQUE, np.diag((3.0, -2, 1, 1))])
def test_orientation_moves_no_voxel_in_the_patient(orientation: str, affine: Any) -> None:
    values = some()
    turned, moved = prepare(values, affine, False, MedicalSpec(orientation=orientation))
    before = sorted(map(tuple, np.c_[places(values.shape, affine), values.ravel()].round(3)))
    after = sorted(map(tuple, np.c_[places(turned.shape, moved), turned.ravel()].round(3)))
    assert before == after


@pytest.mark.parametrize(("orientation", "signs"), [("LPS", (1, 1, 1)), ("RAS", (-1, -1, 1)), ("LIP", None)])
def test_axes_grow_as_the_letters_say(orientation: str, signs: tuple[int, ...] | None) -> None:
    _, moved = prepare(some(), OBLIQUE, False, MedicalSpec(orientation=orientation))
    columns, rows, slices = moved[:3, 2], moved[:3, 1], moved[:3, 0]
    if signs is not None:
        assert [np.sign(axis[place]) for place, axis in enumerate((columns, rows, slices))] == list(signs)
        assert [int(np.abs(axis).argmax()) for axis in (columns, rows, slices)] == [0, 1, 2]
    else:
        assert (int(np.abs(rows).argmax()), float(np.sign(rows[2]))) == (2, -1.0)
        assert (int(np.abs(slices).argmax()), float(np.sign(slices[1]))) == (1, 1.0)


def test_a_plane_keeps_its_slices_and_stands_upright() -> None:
    """A coronal slice written upside down and mirrored is shown as it usually is; it stays one slice."""
    affine = np.array([[0.0, 0, -1, 9], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    values = some((1, 4, 6))
    turned, moved = prepare(values, affine, False, MedicalSpec(orientation="plane"))
    np.testing.assert_array_equal(turned, values[:, ::-1, ::-1])
    assert (moved[0, 2], moved[2, 1]) == (1, -1)


def test_resampling_keeps_a_ramp_and_its_place() -> None:
    """Linear values stay linear away from the edges: the grid is where it says it is.

    To float32 where the new spacing is a whole part or multiple of the old one; else the filter's weights on a discrete
    grid shift a value by up to 3% of a voxel, which here is 15 a row.
    """
    affine = np.diag((2.0, 1.5, 1, 1))
    ramp = (places((9, 20, 30), affine) @ (1.0, 10.0, 100.0)).reshape(9, 20, 30).astype(np.float32)
    for spacing in ((1.0, 1.0, 0.5), (4.0, 3.0, 2.0), (0.0, 2.2, 0.0)):
        found, moved = resample(ramp, affine, spacing, mask=False)
        wanted = (places(found.shape, moved) @ (1.0, 10.0, 100.0)).reshape(found.shape)
        inner = tuple(slice(2, -2) if found.shape[axis] > 5 else slice(1, -1) for axis in range(3))
        np.testing.assert_allclose(found[inner], wanted[inner], rtol=1e-5, atol=0.45 if 2.2 in spacing else 1e-2)
        stated = [new or old for new, old in zip(spacing, (2.0, 1.5, 1.0), strict=True)]
        np.testing.assert_allclose(np.linalg.norm(moved[:3, :3], axis=0), stated)


def test_resampling_down_averages_instead_of_aliasing() -> None:
    """A pattern finer than the new grid becomes its mean; one voxel in three alone would give black or white."""
    stripes = np.tile(np.array([0, 100], np.float32), (1, 60, 30))
    found, _ = resample(stripes, np.eye(4), (0.0, 0.0, 3.0), mask=False)
    assert found.shape == (1, 60, 20)
    assert np.abs(found[:, :, 1:-1] - 50).max() < 6


def test_masks_take_the_nearest_and_invent_no_label() -> None:
    mask = np.zeros((4, 10, 10), np.uint8)
    mask[:, 2:7, 3:8] = 3
    found, _ = prepare_mask(mask, np.diag((2.0, 1, 1, 1)), MedicalSpec(orientation="", spacing=(1.0, 0.7, 1.3)))
    assert set(np.unique(found)) == {0, 3} and found.dtype == np.uint8
    assert found.mean() == pytest.approx(mask.mean(), rel=0.12)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SLP", "plane", ""])
def test_a_mask_goes_back_exactly_without_resampling(orientation: str) -> None:
    mask = (some() > 0).astype(np.uint8)
    spec = MedicalSpec(orientation=orientation)
    seen, _ = prepare_mask(mask, OBLIQUE, spec)
    np.testing.assert_array_equal(restore_mask(seen, OBLIQUE, mask.shape, spec), mask)


def test_a_mask_goes_back_to_its_place_after_resampling() -> None:
    """A block of many voxels: only its rim may differ, and finer grids give it back exactly."""
    mask = np.zeros((12, 40, 50), np.uint8)
    mask[3:9, 10:25, 20:45] = 1
    for spacing, least in (((0.5, 0.25, 0.25), 1.0), ((2.0, 1.0, 1.0), 0.85)):
        spec = MedicalSpec(spacing=spacing)
        seen, _ = prepare_mask(mask, OBLIQUE, spec)
        back = restore_mask(seen, OBLIQUE, mask.shape, spec)
        assert back.shape == mask.shape
        assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) >= least


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="is not what an image"):
        restore_mask(np.zeros((2, 2, 2), np.uint8), np.eye(4), (5, 6, 7), KEEP)


@pytest.mark.parametrize("bits", [8, 16])
def test_quantise(bits: int) -> None:
    found = quantise(np.array([0, 0.5, 1], np.float32), bits)
    assert found.tolist() == [0, 128 if bits == 8 else 32768, 2**bits - 1]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"window": [1, 1]}, "lo below hi"),
        ({"window": [0, float("nan")]}, "lo below hi"),
        ({"window": [1]}, "two numbers"),
        ({"orientation": "LPL"}, "three of L/R"),
        ({"orientation": "XYZ"}, "three of L/R"),
        ({"spacing": [1, 1]}, "spacing three"),
        ({"spacing": [1, -1, 1]}, "three lengths"),
        ({"windows": [0, 1]}, "unknown key 'windows'"),
    ],
)  # fmt: skip
def test_what_is_no_spec(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MedicalSpec.from_dict(stated)


def test_a_spec_survives_json() -> None:
    spec = MedicalSpec((-1000, 400), "RAS", (0, 0.7, 0.7), False)
    assert MedicalSpec.from_dict(spec.to_dict()) == spec
