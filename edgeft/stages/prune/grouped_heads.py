"""Attention heads of decoders, where several query heads share a key and value head (grouped-query attention).

The dependency graph does not follow how keys are repeated for their queries, so these groups are found by the modules'
own sizes. One unit is a key and value head with all query heads that read it (Ainslie et al. 2023, arXiv 2305.13245):
what is left is again a grouped-query attention of the same group size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Side = Literal["out", "in"]
QUERY, KEY, VALUE, OUTPUT = "q_proj", "k_proj", "v_proj", "o_proj"


@dataclass(frozen=True)
class GroupedHeads:
    """attention: the module's name. layers: (name, layer, side that is cut, channels of one unit there); the query
    projection is first."""

    attention: str
    layers: tuple[tuple[str, Any, Side, int], ...]
    units: int

    @property
    def width(self) -> int:
        """Query channels of one unit."""
        return self.layers[0][3]

    @property
    def makers(self) -> list[str]:
        """Layers whose outputs are cut."""
        return [name for name, _, side, _ in self.layers if side == "out"]

    def importance(self, basis: str) -> torch.Tensor:
        """(units * width,): of each query channel its unit's, as Torch-Pruning's group importance: per layer the sum of
        |w|, w squared or |w x gradient| of what is cut, its mean over the layer 1, and the mean over layers."""
        import torch

        found = []
        for _, layer, side, size in self.layers:
            weight = layer.weight.detach() if side == "out" else layer.weight.detach().t()
            if basis == "taylor":
                slope = layer.weight.grad if side == "out" else layer.weight.grad.t()
                scores = (weight * slope).abs().sum(1)
            else:
                scores = weight.abs().pow(1 if basis == "l1" else 2).sum(1)
            each = scores.reshape(self.units, size).mean(1)
            found.append(each / each.mean())
        return torch.stack(found).mean(0).repeat_interleave(self.width)

    def gone(self, units: Sequence[int]) -> Iterator[tuple[str, Side, set[int]]]:
        """Channels of each layer that go with these units."""
        for name, _, side, size in self.layers:
            yield name, side, {place for unit in units for place in range(unit * size, (unit + 1) * size)}


def grouped_heads(module: torch.nn.Module) -> list[GroupedHeads]:
    """Every attention of the kind that transformers' decoders share: projections called q_proj, k_proj, v_proj and
    o_proj, whose heads are counted by their outputs."""
    found = (_grouped(name, child) for name, child in module.named_modules())
    return [item for item in found if item is not None]


def _grouped(name: str, attention: Any) -> GroupedHeads | None:
    import torch

    from edgeft.models.surgeon import head_count

    parts: dict[str, Any] = {part: getattr(attention, part, None) for part in (QUERY, KEY, VALUE, OUTPUT)}
    size, repeats = getattr(attention, "head_dim", None), getattr(attention, "num_key_value_groups", None)
    plain = all(type(part) is torch.nn.Linear for part in parts.values())
    if not plain or type(size) is not int or type(repeats) is not int or head_count(attention) is not None:
        return None
    units, rest = divmod(parts[KEY].out_features, size)
    sizes = (parts[VALUE].out_features, parts[QUERY].out_features, parts[OUTPUT].in_features)
    if rest or units < 2 or sizes != (units * size, units * size * repeats, units * size * repeats):
        return None
    own = {id(tensor) for part in parts.values() for tensor in part.parameters()}
    others = [tensor for tensor in attention.parameters() if id(tensor) not in own]
    if any(tensor.shape != (size,) for tensor in others):  # a norm over all heads, a value per head
        return None
    sides: tuple[tuple[str, Side, int], ...] = (
        (QUERY, "out", size * repeats), (KEY, "out", size), (VALUE, "out", size), (OUTPUT, "in", size * repeats),
    )  # fmt: skip
    return GroupedHeads(name, tuple((f"{name}.{part}", parts[part], side, width) for part, side, width in sides), units)
