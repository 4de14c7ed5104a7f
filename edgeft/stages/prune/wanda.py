"""Wanda: a weight counts as much as its input is large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.stage import Context
from edgeft.stages.prune.base import Cut
from edgeft.stages.prune.sparse import Sparse, keep_highest, keep_two_of_four, masks_by, weights_below_head

if TYPE_CHECKING:
    import torch

    from edgeft.stages.prune.subject import Subject

BATCH = 32


class Wanda(Sparse):
    """Zero weights by magnitude times input norm; no runtime here gets faster by it, only the compressed file smaller.

    Sun et al. 2023, arXiv 2306.11695: |W_ij| * ||X_j||_2, compared within each output row. Linear layers only.
    """

    gathers: ClassVar[tuple[str, ...]] = ("calibration",)

    method: Literal["wanda"] = Field("wanda", description="Zeroes weights by magnitude and input norm.")

    def cut(self, subject: Subject, number: int, ctx: Context) -> Cut:
        """Zero weights of linear layers below the head."""
        weights = weights_below_head(subject.module, ctx, convolutions=False)
        norms, rows = input_norms(subject, [name.removesuffix(".weight") for name in weights], ctx)

        def score(name: str) -> torch.Tensor:
            return weights[name].detach().abs() * norms[name.removesuffix(".weight")]

        ratio = self.ratio or 0.0
        make: Any = keep_two_of_four if self.pattern == "2:4" else lambda scores: keep_highest(scores, ratio)
        basis = f"Wanda: |weight| times input norm on {rows} calibration rows, within each output"
        return self.zero(subject, weights, masks_by(weights, score, make), basis)


def input_norms(subject: Subject, names: list[str], ctx: Context) -> tuple[dict[str, torch.Tensor], int]:
    """(layer -> L2 norm of each input feature over all real tokens (in_features,), rows seen). Raises StepError.

    Memory does not grow with the rows: squares are summed batch by batch.
    """
    import torch

    from edgeft.models.predict import forward_logits
    from edgeft.stages.prune.subject import read_feeds

    feeds, rows = read_feeds(ctx, "calibration", subject.module)
    sums: dict[str, torch.Tensor] = {}
    mask: list[torch.Tensor | None] = [None]

    def watch(name: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            seen = inputs[0].detach().double()
            kept = mask[0]
            if kept is not None and seen.shape[:2] == kept.shape:
                seen = seen * kept[..., None]  # padding is no input
            squares = seen.square().reshape(-1, seen.shape[-1]).sum(0)
            sums[name] = sums.get(name, torch.zeros_like(squares)) + squares

        return hook

    handles = [subject.module.get_submodule(name).register_forward_pre_hook(watch(name)) for name in names]
    try:
        with torch.no_grad():
            for start in range(0, rows.num_rows, BATCH):
                part = {name: torch.from_numpy(array[start : start + BATCH]) for name, array in feeds.items()}
                held = part.get("attention_mask")
                mask[0] = held.double() if held is not None and held.ndim == 2 else None
                forward_logits(subject.module, part)
                ctx.progress(min(start + BATCH, rows.num_rows), rows.num_rows, "row", "input norms")
    finally:
        for handle in handles:
            handle.remove()
    return {name: sums.get(name, torch.zeros(1)).sqrt().float() for name in names}, int(rows.num_rows)
