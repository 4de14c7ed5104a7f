"""Zeros instead of cuts: masks over linear and convolution weights, unstructured or two of four."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from edgeft.record import WidthRow
from edgeft.stage import Context
from edgeft.stages.prune.base import Cut, Prune, refuse

if TYPE_CHECKING:
    import torch

    from edgeft.stages.prune.subject import Subject

LABEL = (
    "ONNX Runtime and the other runtimes here multiply zeros like any number: this makes the file smaller when "
    "compressed, not the model faster"
)


class Sparse(Prune):
    """What methods that zero weights share. The network keeps its shape."""

    shrinks: ClassVar[bool] = False
    zeroes: ClassVar[bool] = True

    pattern: Literal["unstructured", "2:4"] = Field(
        "unstructured",
        description="Zeros anywhere, or two in every four inputs of an output (for sparse tensor cores).",
    )
    ratio: float | None = Field(
        None, gt=0, lt=1, description="Fraction of weights to zero; pattern 2:4 fixes it at 0.5."
    )

    @model_validator(mode="after")
    def _ratio_goes_with_pattern(self) -> Sparse:
        if (self.pattern == "2:4") == (self.ratio is not None):
            raise ValueError("pattern: unstructured needs ratio; pattern: 2:4 has its own and takes none")
        return self

    def zero(
        self, subject: Subject, weights: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor], basis: str
    ) -> Cut:
        """Apply masks (True is kept) to the named weights in place."""
        import torch

        widths = []
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(masks[name])
                left = int((weight != 0).sum())
                widths.append(WidthRow(part=name, kind="weights", before=weight.numel(), after=left))
        return Cut(basis, widths, [LABEL], masks)


def weights_below_head(module: torch.nn.Module, ctx: Context, *, convolutions: bool = True) -> dict[str, torch.Tensor]:
    """Parameter name -> weight of linear layers and convolutions outside the head. Raises StepError where none is."""
    import torch

    from edgeft.models.layers import below_heads, head_modules

    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd) if convolutions else (torch.nn.Linear,)
    names = [name for name, child in module.named_modules() if isinstance(child, kinds)]
    found = {
        f"{name}.weight": module.get_parameter(f"{name}.weight") for name in below_heads(names, head_modules(module))
    }
    if not found:
        raise refuse("this model has no layer below its head whose weights could be zeroed", ctx, "remove this step")
    return found


def keep_two_of_four(scores: torch.Tensor) -> torch.Tensor | None:
    """Mask of a weight (out, in, ...): of every four neighbouring inputs the two highest; None where in is no multiple
    of four. Mishra et al. 2021, arXiv 2104.08378."""
    flat = scores.flatten(1)
    if flat.shape[1] % 4:
        return None
    fours = flat.reshape(flat.shape[0], -1, 4)
    mask = fours.new_zeros(fours.shape).bool()
    mask.scatter_(2, fours.argsort(dim=2, descending=True, stable=True)[..., :2], True)
    return mask.reshape(scores.shape)


def keep_highest(scores: torch.Tensor, ratio: float) -> torch.Tensor:
    """Mask of the highest scores in each row of (rows, n); exactly floor(ratio * n + 0.5) of a row go."""
    count = int(scores.shape[1] * ratio + 0.5)
    mask = scores.new_ones(scores.shape).bool()
    if count:
        mask.scatter_(1, scores.argsort(dim=1, stable=True)[:, :count], False)
    return mask


def masks_by(
    weights: Mapping[str, torch.Tensor],
    score: Callable[[str], torch.Tensor],
    make: Callable[[torch.Tensor], torch.Tensor | None],
) -> dict[str, torch.Tensor]:
    """A mask per weight from its scores; a weight the pattern does not fit keeps everything."""
    masks = {}
    for name, weight in weights.items():
        mask = make(score(name))
        masks[name] = mask if mask is not None else weight.new_ones(weight.shape).bool()
    return masks
