"""A torch model as it is served: pixels in, full-size logits out, in one module that every exporter captures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from edgeft.tasks.image_spec import ImageSpec


def served(module: torch.nn.Module, prepared: Path | None) -> torch.nn.Module:
    """The module as artefacts are made of it. Text models, and anything before preprocessing exists, stay as they are.

    Image models get `pixels` (uint8, (batch, rows, columns, channels)) or `pixel_values` as their one input; logits of
    a segmentation model come out as (batch, classes, height, width).
    """
    if prepared is None:
        return module
    stated = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
    if stated.get("kind") == "volume":
        from edgeft.models.served_volume import serve_volume
        from edgeft.tasks.volume_spec import read_volume_spec

        return serve_volume(module, read_volume_spec(prepared))
    if stated.get("kind") != "image":
        return module
    from edgeft.tasks.image_spec import read_spec

    return serve_image(module, read_spec(prepared), dense=stated["task"] == "segmentation")


def serve_image(module: torch.nn.Module, spec: ImageSpec, *, dense: bool) -> torch.nn.Module:
    """The module behind the spec's resizing, scaling, normalising and permuting, all in standard operators.

    Resizing is two matrix products with Pillow's antialiased bilinear weights: exact in every runtime, where Resize
    operators differ in their antialiasing or have none.
    """
    import numpy as np
    import torch

    from edgeft.medical.reference import resize_matrix

    size = (spec.height, spec.width) if dense else None
    if spec.embed == "none":
        return serve_values(module, size)
    shape = (1, spec.channels, 1, 1)
    # One multiplication and one addition: (x * scale - mean) / std.
    factor = torch.tensor(np.reshape(spec.scale / np.array(spec.std), shape).astype(np.float32))
    offset = torch.tensor(np.reshape(-np.array(spec.mean) / np.array(spec.std), shape).astype(np.float32))
    resizes = spec.source is not None and spec.source != (spec.height, spec.width)

    class ServedPixels(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = module
            self.register_buffer("factor", factor)
            self.register_buffer("offset", offset)
            if resizes and spec.source is not None:
                rows, columns = resize_matrix(spec.source[0], spec.height), resize_matrix(spec.source[1], spec.width)
                self.register_buffer("rows", torch.tensor(rows.astype(np.float32)))
                self.register_buffer("columns", torch.tensor(columns.T.astype(np.float32).copy()))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = pixels.permute(0, 3, 1, 2).to(torch.float32)
            if resizes:
                x = torch.matmul(torch.matmul(self.rows, x), self.columns)
            if spec.order == "BGR":
                x = torch.cat([x[:, 2:3], x[:, 1:2], x[:, 0:1]], dim=1)
            return sized_logits(self.model, x * self.factor + self.offset, size)

    return ServedPixels().eval()


def serve_values(module: torch.nn.Module, size: tuple[int, ...] | None) -> torch.nn.Module:
    """The module with `pixel_values` as its one input; logits per pixel come out at `size`, where one is given."""
    import torch

    class ServedValues(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return sized_logits(self.model, pixel_values, size)

    return ServedValues().eval()


def sized_logits(model: Any, values: torch.Tensor, size: tuple[int, ...] | None) -> torch.Tensor:
    """The model's answer to `values`, (batch, channels, ...), at `size`, where one is given."""
    from edgeft.models.predict import forward_logits

    logits = forward_logits(model, {"pixel_values": values})
    return logits if size is None else full_size(logits, size)


def plain_module(module: torch.nn.Module, prepared: Path) -> torch.nn.Module:
    """The module that the host's plain `pixel_values` go to: itself, or with logits brought to full size."""
    stated = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
    if stated.get("kind") == "volume":
        from edgeft.tasks.volume_spec import read_volume_spec

        return serve_values(module, read_volume_spec(prepared).patch)
    if stated.get("task") != "segmentation":
        return module
    from edgeft.tasks.image_spec import read_spec

    spec = read_spec(prepared)
    return serve_values(module, (spec.height, spec.width))


def full_size(logits: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """(batch, classes, [d,] h, w) brought to `size` by linear interpolation where they are smaller, as SegFormer's."""
    import torch

    if tuple(logits.shape[2:]) == size:
        return logits
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return torch.nn.functional.interpolate(logits, size=size, mode=mode, align_corners=False)
