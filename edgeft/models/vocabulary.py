"""An embedding table that lost rows, behind a map from the tokenizer's ids; imported only where torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class KeptEmbedding(torch.nn.Embedding):  # type: ignore[misc]
    """Rows of the kept ids only, asked for by the tokenizer's own ids: `places` maps each to its row, or to unknown's.

    The map is a constant of the graph, so every runtime gets ids that fit, whatever tokenizer file stands beside it.
    It is rebuilt from the edit and never stored with the weights.
    """

    places: torch.Tensor

    def __init__(self, kept: Sequence[int], of: int, unknown: int, dim: int, padding: int | None, **where: Any) -> None:
        row = {id_: place for place, id_ in enumerate(kept)}
        super().__init__(len(kept), dim, padding_idx=row.get(padding) if padding is not None else None, **where)
        self.kept, self.of, self.unknown = tuple(kept), of, unknown
        self.register_buffer("places", torch.empty(of, dtype=torch.int64, device=self.weight.device), persistent=False)
        self.fill_map()

    def fill_map(self) -> None:
        """Write the map; again after transformers has moved a model off the meta device, which empties buffers."""
        if self.places.is_meta:
            return
        places = torch.full((self.of,), self.kept.index(self.unknown), dtype=torch.int64)
        places[torch.tensor(self.kept)] = torch.arange(len(self.kept))
        self.places.copy_(places)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input: ids in [0, of), any shape; result (..., embedding_dim)."""
        vectors: torch.Tensor = super().forward(self.places[input])
        return vectors


def keep_rows(table: torch.nn.Embedding, kept: Sequence[int], of: int, unknown: int) -> KeptEmbedding:
    """The table with the rows of `kept` (rising ids) only; of: how many ids it takes."""
    rows, padding = list(kept), table.padding_idx
    if isinstance(table, KeptEmbedding):
        row = {id_: place for place, id_ in enumerate(table.kept)}
        rows = [row[id_] for id_ in kept]
        padding = table.kept[padding] if padding is not None else None
    weight = table.weight
    fresh = KeptEmbedding(kept, of, unknown, table.embedding_dim, padding, device=weight.device, dtype=weight.dtype)
    cut = weight.detach().index_select(0, torch.as_tensor(rows, dtype=torch.int64, device=weight.device))
    fresh.weight = torch.nn.Parameter(cut, requires_grad=weight.requires_grad)
    fresh.train(table.training)
    return fresh


def fill_maps(module: torch.nn.Module) -> None:
    """Every map of a module that has just been loaded."""
    for child in module.modules():
        if isinstance(child, KeptEmbedding):
            child.fill_map()
