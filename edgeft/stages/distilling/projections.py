"""Queries, keys and values of a model's last attention layer, caught while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError

if TYPE_CHECKING:
    import torch

TRIPLES = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("to_q", "to_k", "to_v"),
    ("q", "k", "v"),
)
"""How models call the three projections of an attention layer."""


class LastAttention:
    """Keeps what the three projections of the last attention layer answered in the latest forward pass.

    Hooks on the layers themselves, under whatever wraps the model (adapters, data parallelism, compilation).
    """

    def __init__(self, module: torch.nn.Module, who: str, where: str) -> None:
        self.found: dict[int, torch.Tensor] = {}
        self.hooks = [
            layer.register_forward_hook(self._keeper(index))
            for index, layer in enumerate(last_projections(module, who, where))
        ]

    def _keeper(self, index: int) -> Any:
        def keep(_: Any, __: Any, output: torch.Tensor) -> None:
            self.found[index] = output

        return keep

    def take(self) -> list[torch.Tensor]:
        """[queries, keys, values], each (n, positions, width), of the latest pass; they are let go of here."""
        found, self.found = self.found, {}
        return [found[index] for index in range(3)]

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self.hooks:
            hook.remove()


def last_projections(module: torch.nn.Module, who: str, where: str) -> tuple[torch.nn.Module, ...]:
    """The query, key and value layers of the last attention block. Raises StepError for a model without such."""
    known = dict(module.named_modules())
    last: tuple[torch.nn.Module, ...] | None = None
    for name in known:
        parent, _, own = name.rpartition(".")
        for triple in TRIPLES:
            siblings = [f"{parent}.{part}" if parent else part for part in triple]
            if own == triple[0] and all(sibling in known for sibling in siblings):
                last = tuple(known[sibling] for sibling in siblings)
    if last is None:
        raise StepError(
            f"attention_weight: the {who} has no attention layer with separate query, key and value projections",
            where=where,
            hint="set attention_weight: 0",
        )
    return last
