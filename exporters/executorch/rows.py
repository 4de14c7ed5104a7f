"""An embedding table in 8 bits as torch's core operators; imported only where torch is loaded already."""

from __future__ import annotations

import torch

from ..onnx.embedding import quantise_rows


class RowEmbedding(torch.nn.Module):  # type: ignore[misc,unused-ignore]
    """ids (...) int64 -> (..., width) float32: an int8 row times its scale. The ONNX exporter's form, in torch."""

    rows: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        rows, scales = quantise_rows(weight.detach().to(torch.float32).numpy())
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("scales", torch.from_numpy(scales))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        lookup = torch.nn.functional.embedding
        return lookup(ids, self.rows).to(torch.float32) * lookup(ids, self.scales)
