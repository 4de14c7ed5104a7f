"""The loss of labels: cross entropy, or where a case has any number of them binary cross entropy of each."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


def label_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    reduction: Literal["sum", "mean", "none"] = "mean",
    smoothing: float = 0.0,
) -> torch.Tensor:
    """logits (n, classes, ...); labels int64 (n, ...) of one class each, or floating (n, classes) of 0 and 1.

    smoothing moves that share of a label's weight evenly to all classes; of several labels, to either answer. The sum
    of the second kind is over cases and labels. `none`, of tokens (n, classes, length): (n * length,).
    """
    if logits.ndim == 3:  # of tokens: row by row as they lie in memory; across them a large vocabulary takes far longer
        logits, labels = logits.movedim(1, 2).flatten(0, 1), labels.flatten()
    if not labels.is_floating_point():
        return cross_entropy(logits, labels, reduction=reduction, label_smoothing=smoothing)
    wanted = labels * (1 - smoothing) + smoothing / 2
    return binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction=reduction)
