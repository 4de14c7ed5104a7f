"""The order of training rows when batches are made of rows of like length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch.utils.data import Sampler

if TYPE_CHECKING:
    import torch

POOL = 50
"""Batches sorted together: long enough for batches of one length, short enough that their rows vary between epochs."""


def row_lengths(feeds: Mapping[str, Any]) -> torch.Tensor | None:
    """(n,) real tokens per row, of the attention mask (array or tensor); None where there is none."""
    import torch

    mask = feeds.get("attention_mask")
    return torch.as_tensor(mask).reshape(len(mask), -1).sum(1) if mask is not None else None


class LengthOrder(Sampler[int]):  # type: ignore[misc]
    """Rows in an order whose every `batch` consecutive rows have similar lengths. A function of seed and epoch alone.

    Rows are shuffled, sorted by length within pools of 50 batches, and the batches of all pools are shuffled; a last
    incomplete batch stays last. Nothing is drawn from torch's global generator: a resumed run sees the same order.
    """

    def __init__(self, lengths: torch.Tensor, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        import torch

        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=draw)
        whole = len(shuffled) // self.batch * self.batch
        body, rest = shuffled[:whole], shuffled[whole:]
        pools = [pool[torch.argsort(self.lengths[pool], stable=True)] for pool in body.split(POOL * self.batch)]
        batches = [batch for pool in pools for batch in pool.split(self.batch)]
        for at in torch.randperm(len(batches), generator=draw).tolist():
            yield from batches[at].tolist()
        yield from rest.tolist()
