"""A torch model of volumes as it is served: a window of 8-bit voxels in, logits of the window's size out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from edgeft.tasks.volume_spec import VolumeSpec


def serve_volume(module: torch.nn.Module, spec: VolumeSpec) -> torch.nn.Module:
    """The module behind the spec's scaling and normalising, in standard operators.

    Its one input: `pixels`, uint8 (batch, depth, height, width, 1), or `pixel_values`, float32
    (batch, 1, depth, height, width). Logits: (batch, classes, depth, height, width).
    """
    import torch

    from edgeft.models.served import serve_values, sized_logits

    if spec.embed != "pixels":
        return serve_values(module, spec.patch)

    class ServedWindow(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            # One channel: moving its axis is a reshape. One multiplication, one addition: (x * scale - mean) / std.
            x = pixels.reshape(-1, 1, *spec.patch).to(torch.float32)
            return sized_logits(self.model, x * (spec.scale / spec.std) + (-spec.mean / spec.std), spec.patch)

    return ServedWindow().eval()
