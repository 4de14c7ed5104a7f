"""Batches of rows of like length: a shuffle all the same, and a function of seed and epoch alone."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.ml


def test_a_permutation_with_less_padding_that_changes_with_the_epoch() -> None:
    import torch

    from edgeft.stages.finetune.order import LengthOrder

    lengths = torch.randint(1, 65, (1003,), generator=torch.Generator().manual_seed(0))
    order = LengthOrder(lengths, 32, seed=7)
    rows = list(order)
    assert sorted(rows) == list(range(1003))
    assert rows == list(LengthOrder(lengths, 32, seed=7))
    order.set_epoch(1)
    assert rows != list(order)
    assert rows != list(LengthOrder(lengths, 32, seed=8))

    def padded(rows: list[int]) -> int:
        return sum(len(part) * int(lengths[part].max()) for part in torch.tensor(rows).split(32))

    assert padded(rows) < 1.1 * int(lengths.sum()) < 0.7 * padded(list(range(1003)))
    longest = [int(lengths[part].max()) for part in torch.tensor(rows).split(32)]
    assert longest != sorted(longest)


def test_lengths_are_those_of_the_mask() -> None:
    import torch

    from edgeft.stages.finetune.order import row_lengths

    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert row_lengths({"input_ids": mask, "attention_mask": mask}).tolist() == [2, 1]  # type: ignore[union-attr]
    assert row_lengths({"pixels": mask}) is None
