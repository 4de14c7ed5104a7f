"""Splits as tensors: read once, tokenised once, batches padded to their longest row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from edgeft.stage import Context

ROW = "row"
"""Position of each example in its split: travels in the batch to name a bad one; the model never sees it."""


@dataclass(frozen=True)
class Examples:
    """A split in memory. feeds: name -> (n, ...) tensor; labels (n,) int64; rows: the table they came from."""

    feeds: Mapping[str, torch.Tensor]
    labels: torch.Tensor
    rows: pa.Table

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch by one gather per feed; torch's DataLoader calls this instead of item after item."""
        import torch

        at = torch.as_tensor(indices, dtype=torch.int64)
        return {**{name: tensor[at] for name, tensor in self.feeds.items()}, "labels": self.labels[at], ROW: at}


def read_examples(ctx: Context, split: str, accepted: frozenset[str]) -> Examples:
    """The split's canonical feeds that the model accepts, and labels. Raises StepError for a label out of range."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch

    if ctx.prepared is None:
        raise StepError(
            "preprocessing has not been prepared", where=f"step {ctx.step}", hint="the prepare step comes first"
        )
    rows = pq.read_table(ctx.splits[split].path)
    feeds = ctx.task.feeds(rows, ctx.prepared)
    labels = rows.column("label").to_numpy().astype(np.int64)
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(ctx.labels)):
        raise StepError(f"the {split} split has labels outside 0..{len(ctx.labels) - 1}", where=f"step {ctx.step}")
    chosen = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items() if name in accepted}
    if not chosen:
        raise StepError(
            f"the model takes none of the task's feeds ({', '.join(feeds)})",
            where=f"step {ctx.step}",
            hint="its forward must name them as arguments",
        )
    return Examples(chosen, torch.from_numpy(labels), rows)


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
