"""Scores of masks: Dice and IoU per case against MONAI, and the rules for what is empty."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from edgeft.errors import StepError
from edgeft.tasks.segmentation import Segmentation

LABELS = ("nothing", "square", "disc")


def rows_of(masks: np.ndarray) -> Any:
    """A table of masks in a pack, as a split has them."""
    import tempfile
    from pathlib import Path

    import pyarrow as pa
    from PIL import Image

    from edgeft.data.pack import FOLDER

    pack, at, size = Path(tempfile.mkdtemp()) / "x.masks", [], []
    with pack.open("wb") as stream:
        for mask in masks:
            raw = io.BytesIO()
            Image.fromarray(mask).save(raw, format="PNG")
            at.append(stream.tell())
            size.append(stream.write(raw.getvalue()))
    table = pa.table({"id": [str(n) for n in range(len(masks))], "mask_at": at, "mask_size": size})
    return table.replace_schema_metadata({FOLDER: str(pack.with_suffix(".images")).encode()})


def cases(n: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(logits (n, 3, 8, 8), masks (n, 8, 8))."""
    random = np.random.default_rng(seed)
    masks = random.integers(0, 3, (n, 8, 8)).astype(np.uint8)
    logits = random.normal(0, 1, (n, 3, 8, 8)).astype(np.float32)
    np.put_along_axis(logits, masks[:, None].astype(int), logits.max(1, keepdims=True) * 0.9, axis=1)
    return logits, masks


@pytest.mark.ml
def test_dice_and_iou_are_monais() -> None:
    pytest.importorskip("monai")
    import torch
    from monai.metrics import DiceMetric, MeanIoU

    logits, masks = cases()
    score = Segmentation().score({"logits": logits}, rows_of(masks), LABELS)
    answered, truth = (
        torch.nn.functional.one_hot(torch.from_numpy(item.astype(np.int64)), 3).movedim(-1, 1)
        for item in (logits.argmax(1), masks)
    )
    dice = DiceMetric(include_background=False, reduction="none")(answered, truth).numpy()
    iou = MeanIoU(include_background=False, reduction="none")(answered, truth).numpy()
    assert np.allclose(score.cases["dice_square"], dice[:, 0]) and np.allclose(score.cases["dice_disc"], dice[:, 1])
    assert np.allclose(score.cases["mean_iou"], iou.mean(1))
    assert score.metrics["mean_dice"] == pytest.approx(dice.mean())
    assert score.confusion.sum() == masks.size and np.trace(score.confusion) == (logits.argmax(1) == masks).sum()


def test_both_empty_is_right_and_one_empty_is_wrong() -> None:
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[:, :2] = 1
    logits = np.zeros((2, 3, 4, 4), np.float32)
    logits[:, 0], logits[:, 1, :2] = 1, 2  # square as drawn, no disc
    logits[1, 2, 3, 3] = 5  # one pixel of a disc that is not there
    cases_of = Segmentation().score({"logits": logits}, rows_of(masks), LABELS).cases
    assert cases_of["dice_disc"].tolist() == [1.0, 0.0]
    assert cases_of["dice_square"].tolist() == [1.0, 1.0]


def test_what_is_kept_scores_alike_and_is_small() -> None:
    logits, masks = cases(5, seed=3)
    task, rows = Segmentation(), rows_of(masks)
    kept = task.keep({"logits": logits})
    assert kept["classes"].dtype == np.uint8 and kept["mean_logits"].shape == (5, 3)
    assert task.score(kept, rows, LABELS).metrics == task.score({"logits": logits}, rows, LABELS).metrics


def test_masks_of_another_size_are_brought_by_nearest_neighbour() -> None:
    """A value between two classes would be a third class."""
    masks = np.zeros((1, 16, 16), np.uint8)
    masks[:, :, 8:] = 2
    logits = np.zeros((1, 3, 8, 8), np.float32)
    logits[:, 0, :, :4], logits[:, 2, :, 4:] = 1, 1
    score = Segmentation().score({"logits": logits}, rows_of(masks), LABELS)
    assert score.metrics["pixel_accuracy"] == 1 and score.confusion[1].sum() == 0


def test_broken_logits_have_no_score() -> None:
    logits, _ = cases(2)
    logits[1, 0, 0, 0] = np.nan
    with pytest.raises(StepError, match="1 of 2 cases"):
        Segmentation().keep({"logits": logits})
