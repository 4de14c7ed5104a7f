"""Splits as tensors: texts tokenised once and held, images decoded a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from edgeft.stage import Context

ROW = "row"
"""Position of each example in its split: travels in the batch to name a bad one; the model never sees it."""
HELD_BYTES = 512 << 20
"""Feeds of a split up to this size are made once and held; larger ones are made for every batch."""

Feeds = Mapping[str, Any]


@dataclass(frozen=True)
class Examples:
    """A split for training. feeds: name -> (n, ...) array held in memory, empty where they are made by `make`.

    labels (n,) int64, or None where the truth is a mask per case, which `truth` gives for some rows; rows: the table
    they came from. make: rows -> canonical feeds; plain: canonical feeds -> what the model takes.
    """

    feeds: Feeds
    labels: torch.Tensor | None
    rows: pa.Table
    make: Callable[[Any], Feeds] = field(default=lambda rows: {})
    plain: Callable[[Feeds], Feeds] = field(default=lambda feeds: feeds)
    truth: Callable[[Any], Any] | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once; torch's DataLoader calls this instead of item after item."""
        import numpy as np
        import torch

        places = np.asarray(indices, dtype=np.int64)
        at = torch.from_numpy(places)
        given = {name: array[places] for name, array in self.feeds.items()} or self.make(self.rows.take(places))
        made = self.plain(given)
        batch = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in made.items()}
        if self.names:
            batch = {name: tensor for name, tensor in batch.items() if name in self.names}
        if self.truth is not None:
            labels = torch.from_numpy(np.asarray(self.truth(self.rows.take(places))).astype(np.int64))
        elif self.labels is not None:
            labels = self.labels[at]
        else:
            raise StepError("the split has neither labels nor masks")
        return {**batch, "labels": labels, ROW: at}


def read_examples(
    ctx: Context, split: str, *modules: torch.nn.Module, only: Mapping[str, Any] | None = None
) -> Examples:
    """The split's feeds that any of the modules takes, and its labels. Raises StepError for a label out of range.

    only: column -> value or values that a row must have there to be taken.
    """
    import numpy as np
    import torch

    from edgeft.data.table import read_split
    from edgeft.models.predict import chosen_feeds
    from edgeft.stages.finetune.only import select

    if ctx.prepared is None:
        raise StepError(
            "preprocessing has not been prepared", where=f"step {ctx.step}", hint="the prepare step comes first"
        )
    prepared = ctx.prepared
    rows = read_split(ctx.splits[split].path)
    if only:
        rows = select(rows, only, f"step {ctx.step}, {split} split")
    first = ctx.task.feeds(rows.slice(0, 1), prepared)
    made = ctx.task.plain(first, prepared)
    names = tuple(name for name in made if any(name in chosen_feeds(module, made) for module in modules))
    if not names:
        raise StepError(
            f"the model takes none of the task's feeds ({', '.join(made)})",
            where=f"step {ctx.step}",
            hint="its forward must name them as arguments",
        )
    size = sum(np.asarray(array).nbytes for array in first.values()) * max(1, rows.num_rows)
    held = ctx.task.feeds(rows, prepared) if size <= HELD_BYTES else {}
    return Examples(
        held,
        torch.from_numpy(_labels(ctx, split, rows)),
        rows,
        make=lambda part: ctx.task.feeds(part, prepared),
        plain=lambda feeds: ctx.task.plain(feeds, prepared),
        truth=_truth(ctx),
        names=names,
    )


def _truth(ctx: Context) -> Callable[[Any], Any] | None:
    """Masks of some rows, (n, height, width), for a task whose truth is one per pixel."""
    from edgeft.task import DenseTask

    task, prepared = ctx.task, ctx.prepared
    if not isinstance(task, DenseTask) or prepared is None:
        return None
    return lambda rows: task.masks(rows, prepared)


def _labels(ctx: Context, split: str, rows: pa.Table) -> Any:
    import numpy as np

    labels = rows.column("label").to_numpy().astype(np.int64)
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(ctx.labels)):
        raise StepError(f"the {split} split has labels outside 0..{len(ctx.labels) - 1}", where=f"step {ctx.step}")
    return labels


def collate(trim: bool) -> Callable[[Any], dict[str, torch.Tensor]]:
    """The DataLoader's last stage: cut columns that are padding in every row, where the model allows it."""
    from edgeft.models.predict import trim_padding

    def finish(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return trim_padding(batch) if trim else batch

    return finish


def batch_ids(examples: Examples, batch: Mapping[str, torch.Tensor]) -> list[str]:
    """The `id` column of a batch's rows."""
    ids = examples.rows.column("id")
    return [str(ids[int(index)].as_py()) for index in batch[ROW]]
