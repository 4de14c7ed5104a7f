"""Depth pruning: drop whole encoder layers, the ones whose absence changes the answers least."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.record import WidthRow
from edgeft.stage import Context
from edgeft.stages.prune.base import Cut, Prune, refuse
from edgeft.task import logits_at_once

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from edgeft.stages.prune.subject import Subject


class Depth(Prune):
    """Drop the encoder layers whose absence changes the answers least.

    Leave-one-layer-out: mean KL of the whole model's class probabilities from those without the layer, on real rows;
    the layer with the least goes, and what is left is measured again. By measurement, not by fixed positions; see
    Sajjad et al. 2020, arXiv 2004.03844, for how much the choice of layers matters.
    """

    method: Literal["depth"] = Field("depth", description="Drops whole encoder layers.")
    drop: int = Field(ge=1, le=4096, description="How many layers to drop.", examples=[2])
    rows_from: Literal["validation", "calibration"] = Field(
        "validation", description="Split on whose rows importance is measured."
    )
    max_rows: int = Field(256, ge=8, le=100_000, description="At most so many rows, evenly spaced.")

    gathers: ClassVar[tuple[str, ...]] = ()

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        """The split that importance is measured on, too."""
        return tuple(dict.fromkeys([*super().reads, self.rows_from]))

    def cut(self, subject: Subject, number: int, ctx: Context) -> Cut:
        """Drop `drop` layers greedily; widths say which stay."""
        from edgeft.models.depth import keep_places
        from edgeft.stages.prune.subject import read_feeds

        name, total = layer_list(subject.module, ctx)
        if self.drop >= total:
            raise refuse(f"drop: {self.drop} would leave nothing of the {total} layers in {name}", ctx,
                         f"drop at most {total - 1}")  # fmt: skip
        if not subject.scored:
            raise refuse("layers are judged by the answers of a trained model, and this one has no trained head", ctx,
                         "put prune: {method: depth} after finetune")  # fmt: skip
        feeds, _ = read_feeds(ctx, self.rows_from, logits_at_once(ctx.task, ctx.prepared, self.max_rows))
        kept, story = drop_layers(subject, name, feeds, self.drop, ctx)
        keep_places(subject.module, name, kept)
        return Cut(
            f"leave-one-layer-out KL on {len(next(iter(feeds.values())))} {self.rows_from} rows, nats",
            [WidthRow(part=name, kind="layers", before=total, after=len(kept))],
            [f"layers kept, counted from 0: {', '.join(map(str, kept))}", *story],
        )


def layer_list(module: torch.nn.Module, ctx: Context) -> tuple[str, int]:
    """(name, length) of the one list of equal layers. Raises StepError for networks of several stages or none."""
    import torch

    def alike(layers: torch.nn.ModuleList) -> bool:
        names = [[name for name, _ in layer.named_parameters()] for layer in layers]
        one_type = len(layers) > 1 and len({type(layer) for layer in layers}) == 1
        return one_type and bool(names[0]) and names.count(names[0]) == len(names)

    found = [(name, child) for name, child in module.named_modules() if isinstance(child, torch.nn.ModuleList)]
    outer = [(name, child) for name, child in found if alike(child)]
    outer = [(name, child) for name, child in outer if not any(name.startswith(other + ".") for other, _ in outer)]
    if len(outer) != 1:
        raise refuse(f"depth pruning needs one list of encoder layers, this model has {len(outer)}", ctx,
                     "use method: structured")  # fmt: skip
    return outer[0][0], len(outer[0][1])


def drop_layers(
    subject: Subject, name: str, feeds: dict[str, Any], drop: int, ctx: Context
) -> tuple[list[int], list[str]]:
    """(places kept, a sentence per dropped layer). The module is left as it was."""
    import torch

    from edgeft.stages.merging import mean_kl

    module = subject.module
    whole = list(module.get_submodule(name))
    reference = subject.scored_logits(feeds)

    def without(places: list[int]) -> NDArray[np.float32]:
        module.set_submodule(name, torch.nn.ModuleList([whole[place] for place in places]))
        try:
            return subject.scored_logits(feeds)
        finally:
            module.set_submodule(name, torch.nn.ModuleList(whole))

    kept, story, done = list(range(len(whole))), [], 0
    units = sum(len(whole) - gone for gone in range(drop))
    for _ in range(drop):
        costs: dict[int, float] = {}
        for place in kept:
            costs[place] = mean_kl(reference, without([other for other in kept if other != place]))
            done += 1
            ctx.progress(done, units, "layer")
        least = min(costs, key=lambda place: (costs[place], place))
        shown = ", ".join(f"{place}: {cost:.3g}" for place, cost in costs.items())
        story.append(f"dropped layer {least}; KL without each layer was {shown}")
        kept.remove(least)
    return kept, story
