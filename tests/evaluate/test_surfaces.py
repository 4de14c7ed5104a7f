"""Border distances against brute force, and the rules for masks that are empty, touch the edge or are one pixel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeft.evaluate.surfaces import border, border_distances, hd95, surface_dice, volume_error


def brute(one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: tuple[float, ...]) -> list[float]:
    """Of each border element of `one` to the nearest of `other`, by looking at all of them, neighbours one by one."""

    def edge(mask: NDArray[np.bool_]) -> list[tuple[int, ...]]:
        found = []
        for place in np.argwhere(mask):
            for axis in range(mask.ndim):
                for step in (-1, 1):
                    near = place.copy()
                    near[axis] += step
                    inside = 0 <= near[axis] < mask.shape[axis]
                    if not inside or not mask[tuple(near)]:
                        found.append(tuple(int(at) for at in place))
        return sorted(set(found))

    def apart(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return float(sum(((i - j) * step) ** 2 for i, j, step in zip(a, b, spacing, strict=True)) ** 0.5)

    return [min(apart(a, b) for b in edge(other)) for a in edge(one)]


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((14, 11), (1.0, 1.0)), ((9, 16), (0.4, 2.5)), ((7, 8, 6), (3.0, 0.7, 0.7)), ((1, 1, 9), (1.0, 2.0, 3.0))],
)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_distances_are_those_of_brute_force(shape: tuple[int, ...], spacing: tuple[float, ...], share: float) -> None:
    random = np.random.default_rng(int(share * 100) + len(shape))
    for _ in range(4):
        answer, truth = random.random((2, *shape)) < share
        if not (answer.any() and truth.any()):
            continue
        found = border_distances(answer, truth, spacing)
        there, back = brute(answer, truth, spacing), brute(truth, answer, spacing)
        assert np.sort(found.answer_to_truth) == pytest.approx(sorted(there))
        assert np.sort(found.truth_to_answer) == pytest.approx(sorted(back))
        assert hd95(found) == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
        within = [distance <= 1.0 for distance in (*there, *back)]
        assert surface_dice(found, 1.0) == pytest.approx(np.mean(within))
        assert 0 <= hd95(found) <= found.diagonal


def test_what_lies_beyond_the_image_is_outside() -> None:
    full = np.ones((3, 4), bool)
    assert border(full).sum() == 10 and not border(full)[1, 1:3].any()


def test_empty_masks() -> None:
    empty, some = np.zeros((5, 9), bool), np.zeros((5, 9), bool)
    some[2, 3:6] = True
    both = border_distances(empty, empty, (2.0, 0.5))
    assert (hd95(both), surface_dice(both, 1.0)) == (0.0, 1.0)
    diagonal = float(np.hypot(4 * 2.0, 8 * 0.5))
    for pair in ((some, empty), (empty, some)):
        one = border_distances(*pair, (2.0, 0.5))
        assert (hd95(one), surface_dice(one, 100.0)) == (diagonal, 0.0), "whatever the tolerance"


def test_a_shift_of_two_rows_is_twice_the_spacing_of_rows() -> None:
    answer, truth = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    answer[4, 2:9], truth[6, 2:9] = True, True
    found = border_distances(answer, truth, (0.7, 3.0))
    assert hd95(found) == pytest.approx(1.4)
    assert (surface_dice(found, 1.39), surface_dice(found, 1.41)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "truth", "error"), [(0, 0, 0.0), (3, 0, 1.0), (0, 4, 1.0), (3, 4, 0.25), (5, 4, 0.25), (90, 4, 1.0)]
)
def test_volume_errors(answer: int, truth: int, error: float) -> None:
    assert volume_error(answer, truth) == error


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, float("nan")), (1.0, 1.0, 1.0)])
def test_spacings_that_are_none(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"spacing"):
        border_distances(np.ones((3, 3), bool), np.ones((3, 3), bool), spacing)


def test_masks_of_two_sizes() -> None:
    with pytest.raises(ValueError, match="shapes"):
        border_distances(np.ones((3, 3), bool), np.ones((3, 4), bool), (1.0, 1.0))
