"""Pictures of what compression changed: every mark is where it should be and keeps its colour."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from edgeft.record import BORDER_COLOURS, CHANGED_COLOUR, MASK_COLOURS, ExampleRow
from edgeft.tasks.change_pictures import class_borders, draw_borders, mark_changes, show_shift
from edgeft.tasks.mask_pictures import LARGEST

SIZE = (40, 30)
SHOWN = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*SIZE, 3)).astype(np.uint8))
ROW = ExampleRow(rank="worst", case="c", value=0.1, size=SIZE, image="", truth="", answer="")


def pixels(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def of(colour: str, found: np.ndarray) -> np.ndarray:
    return np.asarray((found == [int(colour[at : at + 2], 16) for at in (1, 3, 5)]).all(axis=2))


def square(top: int, left: int, side: int = 10, value: int = 1) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + side, left : left + side] = value
    return mask


def test_borders_of_truth_and_answer_and_of_both() -> None:
    truth, answer = square(5, 5), square(5, 8)
    found = pixels(draw_borders(SHOWN, truth, answer))
    lines = [class_borders(mask) for mask in (truth, answer)]
    assert (of(BORDER_COLOURS[0], found) == (lines[0] & ~lines[1])).all()
    assert (of(BORDER_COLOURS[1], found) == (lines[1] & ~lines[0])).all()
    assert (of(BORDER_COLOURS[2], found) == (lines[0] & lines[1])).all() and (lines[0] & lines[1]).any()
    assert not set(BORDER_COLOURS) & set(MASK_COLOURS)


def test_a_border_is_within_its_class_and_between_classes() -> None:
    mask = square(5, 5)
    mask[5:15, 10:15] = 2
    found = class_borders(mask)
    assert not found[mask == 0].any() and found[5, 5] and found[8, 9] and found[8, 10] and not found[8, 7]
    assert not class_borders(np.zeros(SIZE, np.uint8)).any()


def test_changed_pixels_are_those_and_counted() -> None:
    ours, theirs = square(5, 5), square(6, 5)
    row = mark_changes(ROW, SHOWN, ours, theirs)
    assert (of(CHANGED_COLOUR, pixels(row.changes)) == (ours != theirs)).all()
    assert row.changed == pytest.approx(20 / (40 * 30))
    same = mark_changes(ROW, SHOWN, ours, ours)
    assert same.changed == 0 and not of(CHANGED_COLOUR, pixels(same.changes)).any()


def test_one_changed_pixel_of_a_large_mask_is_seen() -> None:
    large = np.zeros((LARGEST * 4, LARGEST * 2), np.uint8)
    other = large.copy()
    other[333, 77] = 1
    row = mark_changes(ROW, SHOWN.resize(large.shape[::-1]), other, large)
    assert of(CHANGED_COLOUR, pixels(row.changes)).sum() == 1


def test_the_logit_that_moved_most_is_the_brightest() -> None:
    ours = np.zeros((3, *SIZE), np.float32)
    ours[2, 11, 7], ours[0, 30, 20] = -1.5, 0.5
    row = show_shift(ROW, ours, np.zeros_like(ours))
    found = pixels(row.shift)[..., 0]
    assert row.most_shift == 1.5 and found[11, 7] == 255 and 60 < found[30, 20] < 110 and found[0, 0] == 0
    still = show_shift(ROW, ours, ours)
    assert still.most_shift == 0 and not pixels(still.shift).any()
