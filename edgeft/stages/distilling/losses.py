"""Distances between a student and its teacher, one value per example.

Each is a mean within an example, never across examples: a batch split in parts, or gathered over several micro-batches,
adds up to the same sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgeft.task import class_axis

if TYPE_CHECKING:
    import torch

HIDDEN = -1e4
"""Score of a padded position before the softmax: its probability is 0 in float32, and 0 x log 0 stays finite."""


def logits_loss(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """(n,) T^2 KL(teacher || student) of the classes softened by T, in nats. Hinton et al. 2015, arXiv 1503.02531.

    student, teacher: (n, classes, ...) logits, of tokens (n, positions, classes); further axes (pixels) are averaged,
    positions over those whose mask (n, positions) is not 0. T^2 keeps the size of the gradient when T changes.
    """
    import torch

    axis = class_axis(student.ndim)
    ours = torch.log_softmax(student.float() / temperature, dim=axis)
    theirs = torch.log_softmax(teacher.float() / temperature, dim=axis)
    each = torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=axis)
    if student.ndim == 3:
        return temperature**2 * masked_mean(each, mask)
    return temperature**2 * each.reshape(len(each), -1).mean(dim=1)


def hidden_loss(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor | None, kind: Literal["mse", "cosine"]
) -> torch.Tensor:
    """(n,) mean over real positions of the squared difference per feature, or of 1 - cosine.

    student, teacher: (n, positions, width). mask: (n, positions), 0 where padded. mse: TinyBERT, Jiao et al. 2020,
    arXiv 1909.10351; cosine: DistilBERT, Sanh et al. 2019, arXiv 1910.01108.
    """
    import torch

    ours, theirs = student.float(), teacher.float()
    if kind == "mse":
        each = (ours - theirs).square().mean(dim=-1)
    else:
        each = 1 - torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)
    return masked_mean(each, mask)


def relation_loss(student: torch.Tensor, teacher: torch.Tensor, heads: int, mask: torch.Tensor | None) -> torch.Tensor:
    """(n,) mean over heads and real positions of KL(teacher || student) between relations softmax(X X^T / sqrt(d)).

    student, teacher: (n, positions, width) queries, keys or values of one layer; the widths may differ, each a multiple
    of `heads`. MiniLMv2, Wang et al. 2021, arXiv 2012.15828: no projection is needed, the number of attention heads
    need not agree, and no attention map is materialised by either model, so fused attention kernels stay in use.
    """
    import torch

    ours, theirs = relations(student, heads, mask), relations(teacher, heads, mask)
    each = torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1)
    return masked_mean(each.mean(dim=1), mask)


def relations(states: torch.Tensor, heads: int, mask: torch.Tensor | None) -> torch.Tensor:
    """(n, heads, positions, positions) log-probabilities that a position relates to each other one."""
    import torch

    n, positions, width = states.shape
    split = states.float().reshape(n, positions, heads, width // heads).transpose(1, 2)
    scores = split @ split.transpose(-1, -2) / (width // heads) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask[:, None, None, :] == 0, HIDDEN)
    return torch.log_softmax(scores, dim=-1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(n,) mean of (n, positions) over the positions whose mask is not 0; 0 for a row that has none."""
    if mask is None:
        return values.mean(dim=1)
    kept = (mask != 0).to(values.dtype)
    return (values * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
