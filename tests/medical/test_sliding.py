"""Sliding windows: equal to MONAI's, bounded memory, honest about what it skips."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from edgeft.medical.sliding import Plan, count_windows, prove_skipping, segment, slide, starts, weights

RNG = np.random.default_rng(0)


def logits_of(windows: Any) -> Any:
    """Three classes that depend on the voxel and on its place in the window, as a padded convolution's do."""
    values = windows.astype(np.float32) / 255
    ramp = np.linspace(0, 1, values.shape[1], dtype=np.float32)[None, :, None, None]
    return np.stack([np.full_like(values, 0.4), values * (1 + ramp), 1 - values + 0.3 * ramp], axis=1)


def blended(volume: Any, plan: Plan, predict: Any = logits_of) -> Any:
    """float32 (classes, depth, rows, columns): all planes as `slide` gave them."""
    parts: list[Any] = []

    def take(first: int, logits: Any) -> None:
        assert first == sum(part.shape[1] for part in parts)
        parts.append(logits.copy())

    slide(volume, plan, predict, take)
    return np.concatenate(parts, axis=1)


def by_hand(volume: Any, plan: Plan) -> Any:
    """The same by adding up whole arrays; for volumes not smaller than the patch."""
    total = np.zeros((3, *volume.shape))
    count = np.zeros(volume.shape)
    lines = [starts(have, patch, plan.overlap) for have, patch in zip(volume.shape, plan.patch, strict=True)]
    for z in lines[0]:
        for y in lines[1]:
            for x in lines[2]:
                cut = tuple(slice(at, at + size) for at, size in zip((z, y, x), plan.patch, strict=True))
                total[(slice(None), *cut)] += logits_of(volume[cut][None])[0] * weights(plan.patch, plan.blend)
                count[cut] += weights(plan.patch, plan.blend)
    return total / count


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_blending_is_the_weighted_mean(blend: str) -> None:
    volume = RNG.integers(0, 255, (23, 17, 12), dtype=np.uint8)
    plan = Plan((8, 8, 6), 0.4, blend, batch=3)
    assert np.abs(blended(volume, plan) - by_hand(volume, plan)).max() < 1e-6  # float32 sums of up to 12 terms


def test_segment_takes_the_highest_and_the_mean() -> None:
    volume = RNG.integers(0, 255, (23, 17, 12), dtype=np.uint8)
    plan = Plan((8, 8, 6), 0.4)
    found, logits = segment(volume, plan, logits_of), blended(volume, plan)
    assert (found.classes == logits.argmax(0)).all() and found.classes.dtype == np.uint8
    assert np.allclose(found.mean_logits, logits.mean((1, 2, 3)), atol=1e-6)
    assert found.windows == count_windows(volume.shape, plan)


def test_the_batch_and_the_channel_axis_change_nothing() -> None:
    volume = RNG.integers(0, 255, (23, 17, 12), dtype=np.uint8)
    one = segment(volume, Plan((8, 8, 6), 0.4), logits_of).classes
    sizes = []

    def first(windows: Any) -> Any:
        sizes.append(windows.shape)
        return logits_of(windows[:, 0])

    other = segment(volume[None], Plan((8, 8, 6), 0.4, batch=5, axis=1), first).classes
    assert (one == other).all()
    assert set(sizes) == {(5, 1, 8, 8, 6)}  # the last call, too, is a whole batch


def test_a_volume_smaller_than_the_patch_is_padded_on_both_sides() -> None:
    volume = RNG.integers(1, 255, (5, 20, 3), dtype=np.uint8)
    seen = []

    def look(windows: Any) -> Any:
        seen.append(windows.copy())
        return logits_of(windows)

    found = segment(volume, Plan((8, 8, 8), 0.5), look)
    assert found.classes.shape == volume.shape
    assert not seen[0][0, 0].any() and not seen[0][0, 6:].any() and seen[0][0, 1, :, 2:5].all()


def test_memory_is_of_one_patch_deep_and_not_of_the_volume() -> None:
    volume = np.zeros((256, 32, 32), np.uint8)
    whole = 3 * volume.size * 4
    tracemalloc.start()
    segment(volume, Plan((16, 16, 16), 0.5), logits_of)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole / 2


def test_empty_windows_are_not_run_and_their_voxels_are_background() -> None:
    volume = np.zeros((48, 16, 16), np.uint8)
    volume[20:24, 4:12, 4:12] = 200
    plan, ran = Plan((8, 8, 8), 0.0, empty=3), []

    def count(windows: Any) -> Any:
        ran.append(len(windows))
        return logits_of(windows)

    found = segment(volume, plan, count)
    assert (found.windows, found.skipped, len(ran)) == (24, 20, 4)
    assert not found.classes[:16].any() and not found.classes[24:].any() and found.classes[20:24].any()


def test_the_proof_counts_what_skipping_changes() -> None:
    """This network calls dark voxels class 2: skipping dark windows makes them class 0, and the proof says so."""
    volume = np.zeros((16, 8, 8), np.uint8)
    volume[:8] = 200
    assert prove_skipping(volume, Plan((8, 8, 8), 0.0, empty=3), logits_of) == 8 * 8 * 8

    def dark_is_background(windows: Any) -> Any:
        logits = logits_of(windows)
        logits[:, 0] += 5 * (windows == 0)
        return logits

    assert prove_skipping(volume, Plan((8, 8, 8), 0.0, empty=3), dark_is_background) == 0


def test_an_empty_volume_is_answered_all_the_same() -> None:
    found = segment(np.zeros((16, 16, 16), np.uint8), Plan((8, 8, 8), 0.0, empty=3), logits_of)
    assert (found.windows, found.skipped) == (8, 7)
    assert found.classes.shape == (16, 16, 16)


def test_not_a_number_shows_in_the_mean() -> None:
    def broken(windows: Any) -> Any:
        logits = logits_of(windows)
        logits[:, 1, 0, 0, 0] = np.nan
        return logits

    assert np.isnan(segment(np.ones((9, 9, 9), np.uint8), Plan((8, 8, 8)), broken).mean_logits[1])


def test_refuses_what_it_cannot_answer() -> None:
    with pytest.raises(ValueError, match="no depth, height and width"):
        Plan((8, 8, 0))
    with pytest.raises(ValueError, match="below 1"):
        Plan((8, 8, 8), 1.0)
    with pytest.raises(ValueError, match="was answered by"):
        segment(np.ones((9, 9, 9), np.uint8), Plan((8, 8, 8)), lambda windows: np.zeros((1, 2, 4, 8, 8), np.float32))
    with pytest.raises(ValueError, match="more than 1,000,000 windows"):
        segment(np.zeros((400, 400, 400), np.uint8), Plan((2, 2, 2), 0.5), logits_of)


@pytest.mark.ml
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("shape", "patch", "overlap", "batch"),
    [
        ((20, 31, 26), (16, 16, 16), 0.25, 4),
        ((20, 31, 26), (16, 12, 16), 0.5, 3),
        ((10, 31, 12), (16, 16, 16), 0.25, 1),  # smaller than the patch: padded
        ((40, 16, 17), (8, 16, 8), 0.7, 5),
        ((16, 16, 16), (16, 16, 16), 0.5, 2),
        ((33, 9, 50), (16, 16, 16), 0.0, 2),
    ],
)
def test_equals_monai(shape: Any, patch: Any, overlap: float, batch: int, blend: str) -> None:
    import torch

    pytest.importorskip("monai")
    from monai.inferers import SlidingWindowInferer

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 3, 3, padding=1)
    ).eval()
    volume = RNG.integers(0, 255, shape, dtype=np.uint8)
    with torch.no_grad():
        given = torch.from_numpy(volume[None, None].astype(np.float32)) / 255
        theirs = SlidingWindowInferer(patch, batch, overlap, mode=blend)(given, net)[0].numpy()
        ours = blended(
            volume, Plan(patch, overlap, blend, batch),
            lambda windows: net(torch.from_numpy(windows[:, None].astype(np.float32)) / 255).numpy(),
        )  # fmt: skip
    assert np.abs(ours - theirs).max() < 1e-5  # float32 sums in another order
