"""Augmentation of training images: flips, shifts and brightness, drawn from the seed, the step and the row alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import torch

MASK_FILL = -100
"""Label of pixels that a shift brought in: the loss leaves them out."""


class Augment(BaseModel):
    """What is drawn anew for every row at every step. Nothing by default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: bool = Field(False, description="Mirror left and right in half of the cases.")
    flip_vertical: bool = Field(False, description="Mirror top and bottom in half of the cases.")
    shift: float = Field(
        0.0, ge=0, le=0.5, description="Move by up to this fraction of each side; the edge is repeated."
    )
    brightness: float = Field(
        0.0, ge=0, lt=1, description="Multiply the network's input range by up to 1 +- this, before normalising."
    )

    @property
    def active(self) -> bool:
        """Whether anything is drawn."""
        return self != Augment()


def augment_batch(batch: dict[str, Any], options: Augment, levels: Any, rows: Any, seed: int, step: int) -> None:
    """Change `pixel_values` (n, channels, [depth,] height, width), and labels of that size, in place.

    A volume is flipped and moved within its planes, all of them alike.

    levels: (mean, std) of the normalisation, (channels,) each. A row's draws depend on (seed, step, row) and nothing
    else: micro-batches, resumption and the number of processes do not change them.
    """
    import numpy as np

    values, labels = batch["pixel_values"], batch["labels"]
    dense = labels if labels.ndim >= 3 else None
    for place, row in enumerate(rows.tolist()):
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, row])))
        image, mask = _geometry(values[place], dense[place] if dense is not None else None, options, draw)
        if options.brightness:
            image = _brighten(image, levels, 1 + options.brightness * (2 * draw.random() - 1))
        values[place] = image
        if dense is not None and mask is not None:
            dense[place] = mask


def _geometry(
    image: torch.Tensor, mask: torch.Tensor | None, options: Augment, draw: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor | None]:
    flips = [axis for axis, on in ((-1, options.flip), (-2, options.flip_vertical)) if on and draw.random() < 0.5]
    if flips:
        image = image.flip(flips)
        mask = mask.flip(flips) if mask is not None else None
    if options.shift:
        height, width = image.shape[-2:]
        most = (int(height * options.shift), int(width * options.shift))
        moves = tuple(int(draw.integers(-limit, limit + 1)) for limit in most)
        image = _shifted(image, moves)
        mask = _shifted(mask, moves, MASK_FILL) if mask is not None else None
    return image, mask


def _shifted(tensor: torch.Tensor, moves: tuple[int, ...], fill: int | None = None) -> torch.Tensor:
    """Moved by whole pixels; what comes in repeats the edge, or is `fill`."""
    import torch

    for axis, move in zip((-2, -1), moves, strict=True):
        places = torch.arange(tensor.shape[axis], device=tensor.device) - move
        inside = (places >= 0) & (places < tensor.shape[axis])
        tensor = tensor.index_select(axis, places.clamp(0, tensor.shape[axis] - 1))
        if fill is not None:
            shape = [1] * tensor.ndim
            shape[axis] = -1
            tensor = tensor.masked_fill(~inside.reshape(shape), fill)
    return tensor


def _brighten(image: torch.Tensor, levels: Any, factor: float) -> torch.Tensor:
    """The normalised image of a scaled one: (x * std + mean) * factor, normalised again; not clipped."""
    mean, std = (level.reshape(-1, *[1] * (image.ndim - 1)).to(image.device) for level in levels)
    return ((image * std + mean) * factor - mean) / std
