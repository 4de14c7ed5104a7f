"""Training on windows: drawn by seed, step and row alone, so that batches, resumption and processes change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.stage import Context
from tests.tasks.test_volume_segmentation import LABELS, SERVE, TASK, split

pytestmark = pytest.mark.ml


class Split:
    def __init__(self, path: Path) -> None:
        self.path, self.n = path, 2


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Two volumes as the train split."""
    import pyarrow as pa
    from pyarrow import parquet

    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (9, 8, 12), dtype=np.uint8) for _ in range(2)]
    masks = [np.zeros(image.shape, np.uint8) for image in images]
    masks[0][2:4, 3:5, 3:9], masks[1][5, 5, 5] = 1, 2
    rows = split(tmp_path, images, masks).append_column("label", pa.array([1, 2], pa.int64()))
    parquet.write_table(rows.replace_schema_metadata(None), tmp_path / "part.parquet")
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    splits: Any = {"train": Split(tmp_path / "part.parquet")}
    TASK.prepare(tmp_path, {"train": tmp_path / "part.parquet"}, LABELS, SERVE, prepared)
    return Context("train", 0, tmp_path, TASK, LABELS, prepared=prepared, splits=splits)


def examples(context: Context, windows: int) -> Any:
    import torch

    from edgeft.stages.finetune.data import read_examples

    return read_examples(context, "train", torch.nn.Conv3d(1, 3, 1), windows=windows)


def test_an_epoch_has_some_windows_of_each_volume_and_holds_none(context: Context) -> None:
    found = examples(context, 3)
    batch = found.__getitems__([0, 1, 5])
    assert len(found) == 6
    assert batch["pixel_values"].shape == (3, 1, 4, 4, 6) and batch["labels"].shape == (3, 4, 4, 6)
    assert batch["pixel_values"].untyped_storage().nbytes() <= 4, "zeros that take no memory until a step draws"


def test_a_row_is_drawn_alike_whatever_else_is_in_its_batch(context: Context) -> None:
    found = examples(context, 3)
    alone = found.draw(found.__getitems__([4]), 7, 11)
    among = found.draw(found.__getitems__([2, 4, 0]), 7, 11)
    assert (alone["pixel_values"][0] == among["pixel_values"][1]).all()
    assert (alone["labels"][0] == among["labels"][1]).all()
    later = [found.draw(found.__getitems__([4]), 7, step)["pixel_values"] for step in range(12, 18)]
    assert any((alone["pixel_values"] != other).any() for other in later)
    copies = found.draw(found.__getitems__([0, 2, 4]), 7, 11)["pixel_values"]  # three draws of the same volume
    assert any((copies[0] != copies[place]).any() for place in (1, 2))


def test_values_and_labels_are_of_the_same_window(context: Context) -> None:
    from edgeft.data.table import read_split
    from edgeft.data.volumes import volume_masks

    found = examples(context, 1)
    truth = [mask for _, mask in volume_masks(read_split(context.splits["train"].path))]
    for step in range(8):
        batch = found.draw(found.__getitems__([0, 1]), 7, step)
        for place in range(2):
            plain = ((batch["pixel_values"][place, 0].numpy() * 0.5 + 0.5) * 255).round().astype(np.uint8)
            volume = next(
                iter(list(TASK.whole(read_split(context.splits["train"].path), context.prepared))[place].values())
            )[..., 0]  # type: ignore[arg-type]
            views = np.lib.stride_tricks.sliding_window_view(volume, plain.shape)
            z, y, x = np.argwhere((views == plain).all((3, 4, 5)))[0]
            assert (batch["labels"][place].numpy() == truth[place][z : z + 4, y : y + 4, x : x + 6]).all()


def test_what_is_not_trained_sees_the_same_windows_every_time(context: Context) -> None:
    found = examples(context, 0)
    assert not found.blank and len(found) == TASK.windows(found.rows, context.prepared).num_rows  # type: ignore[arg-type]
    first, again = found.__getitems__([0, 1]), found.__getitems__([0, 1])
    assert (first["pixel_values"] == again["pixel_values"]).all() and first["pixel_values"].abs().sum() > 0
    assert found.draw(first, 7, 1) is first


def test_losses_of_voxels() -> None:
    import torch

    from edgeft.stages.finetune.trainer import at_labels_size, dice_loss

    labels = torch.randint(0, 3, (2, 4, 4, 6))
    perfect = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float() * 50
    assert float(dice_loss(perfect, labels)) < 1e-3 < float(dice_loss(-perfect, labels))
    labels[0, 0] = -100
    assert float(dice_loss(perfect, labels)) < 1e-3, "what is beyond the volume does not count"
    assert at_labels_size(torch.zeros(2, 3, 2, 2, 3), labels).shape == (2, 3, 4, 4, 6)


def test_brightness_moves_a_whole_volume() -> None:
    import torch

    from edgeft.stages.finetune.augment import Augment, augment_batch

    batch = {"pixel_values": torch.rand(2, 1, 3, 4, 5), "labels": torch.randint(0, 3, (2, 3, 4, 5))}
    before = {name: tensor.clone() for name, tensor in batch.items()}
    augment_batch(
        batch,
        Augment(flip=True, brightness=0.2),
        (torch.tensor([0.5]), torch.tensor([0.5])),
        torch.tensor([3, 4]),
        7,
        1,
    )
    assert (batch["pixel_values"] != before["pixel_values"]).any()
    flipped = [not (batch["labels"][place] == before["labels"][place]).all() for place in range(2)]
    for place, turned in enumerate(flipped):
        if turned:
            assert (batch["labels"][place] == before["labels"][place].flip(-1)).all()
