"""Which channels stand and fall together: Torch-Pruning's dependency graph as groups that can be ranked and cut."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgeft.models.predict import forward_logits
from edgeft.models.surgery import Heads, Slice, spans
from edgeft.stages.prune.grouped_heads import GroupedHeads, grouped_heads

if TYPE_CHECKING:
    import torch

Part = Literal["heads", "neurons", "channels"]
PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
)
"""How attention modules of transformers call their three input projections."""


@dataclass(frozen=True)
class Coupled:
    """Channels that must go together. part: what one unit is; units: how many there are; root: the layer whose output
    they are; attention: the module whose number of heads changes; group: Torch-Pruning's group over all of them, or
    GroupedHeads.

    Unit u consists of channels `channels(u)` of the root: a head's dimensions, one neuron, or the channel at the same
    place of each channel group (grouped convolutions, group normalisation).
    """

    part: Part
    name: str
    units: int
    width: int
    repeats: int
    attention: str
    group: Any

    def channels(self, unit: int) -> list[int]:
        """Root channels of one unit."""
        if self.repeats > 1:
            return [unit + copy * self.units for copy in range(self.repeats)]
        return list(range(unit * self.width, (unit + 1) * self.width))


class Coupling:
    """The dependency graph of a module (Fang et al. 2023, DepGraph, arXiv 2301.12900), traced on example feeds.

    Raises ImportError without torch-pruning.
    """

    def __init__(self, module: torch.nn.Module, examples: Mapping[str, torch.Tensor]) -> None:
        import torch

        self.module = module
        self.names = {child: name for name, child in module.named_modules()}
        slopes = (child for child in module.modules() if isinstance(child, torch.nn.PReLU))
        ignored = [child for child in slopes if child.num_parameters == 1]  # one slope for all channels: no width
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            self.graph = _graph()
            self.graph.build_dependency(
                module, dict(examples), forward_fn=forward_logits, ignored_layers=ignored, verbose=False
            )
        module.eval()

    def groups(self) -> list[Coupled]:
        """What may be cut, in the order of the network. Left alone: outputs, and widths that a normalisation over
        features, an embedding or a bare parameter shares (the residual stream of a transformer)."""
        import torch

        order = {name: place for place, name in enumerate(self.names.values())}
        kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
        found = []
        for group in self.graph.get_all_groups(root_module_types=kinds):
            coupled = self._describe(group)
            if coupled is not None:
                found.append(coupled)
        for heads in grouped_heads(self.module):
            found.append(Coupled("heads", heads.attention, heads.units, heads.width, 1, "", heads))
        return sorted(found, key=lambda item: order[item.name])

    def untold_heads(self, groups: Sequence[Coupled]) -> list[str]:
        """In words, where the network has attention and none of its heads may be cut."""
        ends = {item for trio in PROJECTIONS for item in trio[:2]}
        has = any(name.rpartition(".")[2] in ends for name in self.names.values())
        known = any(item.part == "heads" for item in groups)
        return (
            ["attention heads stay whole: where one ends could not be told in this network"]
            if has and not known
            else []
        )

    def makers(self, coupled: Coupled) -> list[str]:
        """Names of the layers whose outputs a group cuts."""
        if isinstance(coupled.group, GroupedHeads):
            return coupled.group.makers
        found = (self.names.get(dep.target.module) for dep, _ in coupled.group if self._is_out(dep))
        return [name for name in found if name]

    def _describe(self, group: Any) -> Coupled | None:
        root = group[0].dep.target.module
        if any(self._fixed(dep) for dep, _ in group):
            return None
        name, size = self.names[root], len(group[0].idxs)
        if size < 2 or name.rpartition(".")[2] == "pooler" or ".pooler." in f".{name}.":
            return None  # a pooler is the head's: it costs one row of work a case
        attention = self._attention(group)
        if attention is not None:
            heads = attention[1]
            if size % heads or heads < 2:
                return None
            return Coupled("heads", attention[0], heads, size // heads, 1, attention[0], group)
        if self._is_attention_part(group):
            return None
        repeats = max((self._channel_groups(dep) for dep, _ in group), default=1)
        if size % repeats or size // repeats < 2:
            return None
        part: Part = "neurons" if type(root).__name__ == "Linear" else "channels"
        return Coupled(part, name, size // repeats, 1, repeats, "", group)

    def _fixed(self, dep: Any) -> bool:
        """True for what must keep its width: outputs, layer normalisation, embeddings, bare parameters, recurrences."""
        import torch

        target = dep.target
        if type(target.module).__name__ == "_OutputOp":
            return True
        out = self.graph.is_out_channel_pruning_fn(dep.handler)
        if isinstance(target.module, torch.nn.Parameter | torch.nn.LayerNorm | torch.nn.Embedding | torch.nn.LSTM):
            return True
        if isinstance(target.module, torch.nn.MultiheadAttention):
            return True
        # The network ends in this layer, or splits its channels into things the graph does not follow.
        ends = out and target.module in self.names and not target.outputs
        return ends or type(target.module).__name__ in ("_SplitOp", "_UnbindOp", "_SliceOp")

    def _attention(self, group: Any) -> tuple[str, int] | None:
        """(attention module, heads) where all three input projections of one are in the group on their output side."""
        from edgeft.models.surgeon import head_count

        outs = {self.names.get(dep.target.module) for dep, _ in group if self._is_out(dep)}
        parents = {name.rpartition(".")[0] for name in outs if name}
        for parent in sorted(parents):
            place: Any = self.module.get_submodule(parent)
            attribute = head_count(place)
            for trio in PROJECTIONS:
                if attribute and all(f"{parent}.{item}" in outs for item in trio):
                    return parent, int(getattr(place, attribute))
        return None

    def _is_attention_part(self, group: Any) -> bool:
        """A projection without its two fellows: its channels are not cut one by one (whole heads: GroupedHeads)."""
        ends = {item for trio in PROJECTIONS for item in trio}
        names = [self.names.get(dep.target.module, "") for dep, _ in group if self._is_out(dep)]
        return any(name.rpartition(".")[2] in ends for name in names)

    def _is_out(self, dep: Any) -> bool:
        return bool(self.graph.is_out_channel_pruning_fn(dep.handler))

    def _channel_groups(self, dep: Any) -> int:
        import torch

        place = dep.target.module
        if isinstance(place, torch.nn.GroupNorm):
            return int(place.num_groups)
        if isinstance(place, torch.nn.modules.conv._ConvNd) and not _depthwise(place):
            return int(place.groups)
        return 1

    def edits(self, removed: Sequence[tuple[Coupled, Sequence[int]]]) -> list[Slice | Heads]:
        """Edits that remove units: one slice per layer and side, then the head counts. All indices are of the network
        as it was traced."""
        gone: dict[tuple[str, Literal["out", "in"]], set[int]] = defaultdict(set)
        heads: list[Heads] = []
        for coupled, units in removed:
            if not units:
                continue
            if isinstance(coupled.group, GroupedHeads):
                for layer, side, places in coupled.group.gone(units):
                    gone[layer, side] |= places
                continue
            channels = sorted(channel for unit in units for channel in coupled.channels(unit))
            root = coupled.group[0].dep
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                group = self.graph.get_pruning_group(root.target.module, root.handler, channels)
            for dep, found in group:
                name = self.names.get(dep.target.module)
                if name is not None and _width(dep.target.module, "out") is not None:
                    gone[name, self._side(dep)] |= {int(place) for place in found}
            if coupled.part == "heads":
                kept = set(range(coupled.units)) - set(units)
                heads.append(Heads(module=coupled.attention, of=coupled.units, keep=spans(kept)))
        slices = []
        for (name, side), places in gone.items():
            size = _width(self.module.get_submodule(name), side) or 0
            slices.append(Slice(module=name, side=side, of=size, keep=spans(set(range(size)) - places)))
        order = {name: place for place, name in enumerate(self.names.values())}
        slices.sort(key=lambda edit: (order[edit.module], edit.side))
        return [*slices, *sorted(heads, key=lambda edit: order[edit.module])]

    def _side(self, dep: Any) -> Literal["out", "in"]:
        """Normalisations, activations and depthwise convolutions have one side, called out."""
        import torch

        place = dep.target.module
        two = isinstance(place, torch.nn.Linear) or (
            isinstance(place, torch.nn.modules.conv._ConvNd) and not _depthwise(place)
        )
        return "in" if two and not self._is_out(dep) else "out"


def _depthwise(conv: Any) -> bool:
    return bool(conv.groups > 1 and conv.groups == conv.out_channels == conv.in_channels)


def _width(layer: Any, side: Literal["out", "in"]) -> int | None:
    """Channels of a layer on a side; None for modules without a width of their own."""
    names = ("out_features", "out_channels") if side == "out" else ("in_features", "in_channels")
    for name in (*names, "num_features", "num_channels", "num_parameters"):
        size = getattr(layer, name, None)
        if type(size) is int:
            return size
    return None


def _graph() -> Any:
    """Torch-Pruning's graph, told the true sizes that torch.cat joined: it infers them and fails on residual U-nets."""
    import torch_pruning
    from torch.overrides import TorchFunctionMode

    class Sizes(TorchFunctionMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.found: dict[Any, list[int]] = {}

        def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if getattr(func, "__name__", "") in ("cat", "concat", "concatenate") and result.grad_fn is not None:
                parts = args[0] if args else kwargs["tensors"]
                dim = args[1] if len(args) > 1 else (kwargs or {}).get("dim", 0)
                self.found[result.grad_fn] = [int(part.shape[dim]) for part in parts]
            return result

    class Graph(torch_pruning.DependencyGraph):  # type: ignore[misc]
        def _trace(self, *args: Any, **kwargs: Any) -> Any:
            with Sizes() as sizes:
                nodes = super()._trace(*args, **kwargs)
            for node in nodes.values():
                if type(node.module).__name__ == "_ConcatOp" and node.grad_fn in sizes.found:
                    node.module.concat_sizes = sizes.found[node.grad_fn]
            return nodes

    return Graph()


def importance_of(basis: str) -> Callable[[Any], Any]:
    """Torch-Pruning's group importance: a score per channel, its mean over the group 1."""
    import torch_pruning

    whole: Callable[[Any], Any]
    if basis == "taylor":
        whole = torch_pruning.importance.GroupTaylorImportance()
    else:
        whole = torch_pruning.importance.GroupMagnitudeImportance(p=1 if basis == "l1" else 2)

    def measure(group: Any) -> Any:
        return group.importance(basis) if isinstance(group, GroupedHeads) else whole(group)

    return measure


def unit_scores(coupled: Coupled, importance: Callable[[Any], Any]) -> list[float]:
    """One score per unit: the mean over its channels."""
    scores = importance(coupled.group).double()
    return [float(scores[coupled.channels(unit)].mean()) for unit in range(coupled.units)]


def each(groups: Sequence[Coupled], part: Part) -> Iterator[Coupled]:
    """The groups of one kind."""
    return (item for item in groups if item.part == part)
