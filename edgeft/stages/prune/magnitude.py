"""Magnitude pruning: the smallest weights become zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgeft.stage import Context
from edgeft.stages.prune.base import Cut
from edgeft.stages.prune.sparse import Sparse, keep_highest, keep_two_of_four, masks_by, weights_below_head

if TYPE_CHECKING:
    import torch

    from edgeft.stages.prune.subject import Subject


class Magnitude(Sparse):
    """Zero the smallest weights; no runtime here gets faster by it, only the compressed file smaller.

    Han et al. 2015, arXiv 1506.02626.
    """

    method: Literal["magnitude"] = Field("magnitude", description="Zeroes the smallest weights.")
    spread: Literal["layer", "global"] = Field(
        "layer", description="layer: the same fraction of every layer; global: the smallest of all layers together."
    )

    def cut(self, subject: Subject, number: int, ctx: Context) -> Cut:
        """Zero weights below the head by absolute value."""
        import torch

        weights = weights_below_head(subject.module, ctx)
        sizes = {name: weight.detach().abs() for name, weight in weights.items()}
        if self.pattern == "2:4":
            masks = masks_by(weights, sizes.__getitem__, keep_two_of_four)
            return self.zero(subject, weights, masks, "absolute value, two of every four inputs kept")
        ratio = self.ratio or 0.0
        if self.spread == "global":
            whole = torch.cat([size.flatten() for size in sizes.values()])
            kept = keep_highest(whole[None], ratio)[0].split([size.numel() for size in sizes.values()])
            masks = {name: part.reshape(sizes[name].shape) for name, part in zip(sizes, kept, strict=True)}
            return self.zero(subject, weights, masks, "absolute value, all layers together")

        def by_layer(size: torch.Tensor) -> torch.Tensor:
            return keep_highest(size.flatten()[None], ratio).reshape(size.shape)

        return self.zero(
            subject, weights, masks_by(weights, sizes.__getitem__, by_layer), "absolute value, layer by layer"
        )
