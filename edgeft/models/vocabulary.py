"""An embedding table, and a layer that answers tokens, that lost rows; imported only where torch is loaded.

Both stand behind a map from the tokenizer's ids to rows. The map is a constant of the graph, so every runtime takes and
answers the tokenizer's own ids; it is rebuilt from the edit and never stored with the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

BELOW = 1.0
"""By how many nats at least a dropped token stays below the likeliest kept one, so that it is never the answer: a
16-bit runtime still tells them apart where logits go up to 256."""


AT_ONCE = 8192
"""Rows that are widened to float64 at once."""


class _Mapped(torch.nn.Module):  # type: ignore[misc]
    """kept: rising ids that have rows of their own, in that order; of: how many ids there are; unknown: the kept id
    whose row all others use, None: there is one more row, the last, that they share."""

    places: torch.Tensor
    kept: tuple[int, ...]
    of: int
    unknown: int | None

    def _map_ids(self, kept: Sequence[int], of: int, unknown: int | None, device: torch.device) -> None:
        self.kept, self.of, self.unknown = tuple(kept), of, unknown
        self.register_buffer("places", torch.empty(of, dtype=torch.int32, device=device), persistent=False)
        self.fill_map()

    def fill_map(self) -> None:
        """Write the map; again after transformers has moved a model off the meta device, which empties buffers."""
        if self.places.is_meta:
            return
        others = len(self.kept) if self.unknown is None else self.kept.index(self.unknown)
        places = torch.full((self.of,), others, dtype=torch.int32)
        places[torch.tensor(self.kept)] = torch.arange(len(self.kept), dtype=torch.int32)
        self.places.copy_(places)


class KeptEmbedding(_Mapped, torch.nn.Embedding):  # type: ignore[misc]
    """Rows of the kept ids, and where no unknown token stands for the others one row that does."""

    def __init__(
        self, kept: Sequence[int], of: int, unknown: int | None, dim: int, padding: int | None, **where: Any
    ) -> None:
        row = {id_: place for place, id_ in enumerate(kept)}
        place = row.get(padding) if padding is not None else None
        torch.nn.Embedding.__init__(self, len(kept) + (unknown is None), dim, padding_idx=place, **where)
        self._map_ids(kept, of, unknown, self.weight.device)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input: ids in [0, of), any shape; result (..., embedding_dim)."""
        vectors: torch.Tensor = torch.nn.Embedding.forward(self, self.places[input])
        return vectors


class KeptHead(_Mapped, torch.nn.Linear):  # type: ignore[misc]
    """Rows of the kept ids and one, the last, that answers for every other id.

    All dropped tokens have one logit: that row's plus `shift`, and never closer than BELOW to the likeliest kept token.
    So logits keep their shape, each token has a finite one, and the likeliest is one that can be told apart.
    """

    def __init__(self, kept: Sequence[int], of: int, shift: float, width: int, bias: bool, **where: Any) -> None:
        torch.nn.Linear.__init__(self, width, len(kept) + 1, bias=bias, **where)
        self.shift = shift
        self._map_ids(kept, of, None, self.weight.device)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input: (..., in_features); result (..., of)."""
        rows = torch.nn.Linear.forward(self, input)
        kept, others = rows[..., :-1], rows[..., -1:] + self.shift
        others = torch.minimum(others, kept.amax(-1, keepdim=True) - BELOW)
        return self._spread(torch.cat([kept, others], -1))

    def _spread(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., rows) to (..., of). The same copies either way: index_select is one plain Gather of a graph, and in
        torch takes seconds for a batch, forwards and backwards, where gather takes tenths."""
        if torch.compiler.is_exporting():
            return rows.index_select(-1, self.places)
        return rows.gather(-1, self.places.long().expand(*rows.shape[:-1], self.of))


def keep_rows(table: torch.nn.Embedding, kept: Sequence[int], of: int, unknown: int | None) -> KeptEmbedding:
    """The table with the rows of `kept` (rising ids), and without an unknown token the mean of all other rows."""
    padding = table.padding_idx
    if isinstance(table, KeptEmbedding):
        padding = table.kept[padding] if padding is not None and padding < len(table.kept) else None
    weight = _cut(table, "weight", kept, of, mean=unknown is None)
    fresh = KeptEmbedding(kept, of, unknown, table.embedding_dim, padding, device=weight.device, dtype=weight.dtype)
    fresh.weight = weight
    fresh.train(table.training)
    return fresh


def keep_answers(head: torch.nn.Linear, kept: Sequence[int], of: int, shift: float) -> KeptHead:
    """The layer with the outputs of `kept` (rising ids) and the mean of all others."""
    weight = _cut(head, "weight", kept, of, mean=True)
    where = {"device": weight.device, "dtype": weight.dtype}
    fresh = KeptHead(kept, of, shift, head.in_features, head.bias is not None, **where)
    fresh.weight = weight
    if head.bias is not None:
        fresh.bias = _cut(head, "bias", kept, of, mean=True)
    fresh.train(head.training)
    return fresh


def _cut(layer: Any, name: str, kept: Sequence[int], of: int, *, mean: bool) -> torch.nn.Parameter:
    """Rows of a parameter (rows, ...). mean: one more, of all others; a row that stood for n tokens counts n times."""
    tensor = getattr(layer, name)
    whole, rows, weights = tensor.detach(), list(kept), torch.ones(len(tensor), dtype=torch.float64)
    if isinstance(layer, _Mapped):
        row = {id_: place for place, id_ in enumerate(layer.kept)}
        rows = [row[id_] for id_ in kept]
        weights[len(layer.kept) :] = of - len(layer.kept)
    places = torch.as_tensor(rows, dtype=torch.int64, device=tensor.device)
    cut = whole.index_select(0, places)
    if mean:
        weights[torch.tensor(rows)] = 0
        others = mean_row(whole, weights / weights.sum().clamp(min=1))
        cut = torch.cat([cut, others[None]])
    return torch.nn.Parameter(cut, requires_grad=tensor.requires_grad)


def mean_row(rows: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Sum of the rows (n, ...) by their shares (n,), in float64, some at a time: a copy of all of a large vocabulary
    would be twice its size. dtype and device as the rows'; on the meta device, where a model is about to be filled, a
    row without values."""
    found = torch.zeros(rows.shape[1:], dtype=torch.float64, device=rows.device)
    if not rows.is_meta:
        for some, weights in zip(rows.split(AT_ONCE), shares.to(rows.device).split(AT_ONCE), strict=True):
            found += torch.tensordot(weights, some.double(), 1)
    return found.to(rows.dtype)


def fill_maps(module: torch.nn.Module) -> None:
    """Every map of a module that has just been loaded."""
    for child in module.modules():
        if isinstance(child, _Mapped):
            child.fill_map()
