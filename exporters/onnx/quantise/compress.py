"""From a float ONNX graph and a variant to the compressed graph: statistics, equalisation, and the form asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.exporter import Layer, Unsupported, Variant

from ..embedding import large_tables, quantise_embeddings
from ..layers import choose_nodes, find_outputs, layer_nodes, list_layers, refuse_quantised, resolve_operators
from ..tensors import bind_feeds, fixed_batch
from .equalise import Pair, choose_scales, find_pairs, rescale, scaled_ranges
from .neighbours import activation_tensors
from .options import CALIBRATED, Compression, read_options
from .ranges import choose_ranges
from .statistics import Statistics, collect, load_statistics

if TYPE_CHECKING:
    import onnx

    from edgeft.artifact import Signature
    from edgeft.task import Arrays


@dataclass(frozen=True)
class Cases:
    """What a variant may be made from: the float graph's signature, and cases or their statistics."""

    signature: Signature
    calibration: Arrays | Artifact | None
    progress: Callable[[float, float], None] = lambda done, total: None

    @property
    def feeds(self) -> dict[str, Any]:
        """Input name -> (n, ...). Unsupported where there are none."""
        if isinstance(self.calibration, Artifact):
            raise Unsupported("this variant needs calibration cases, and was given statistics of them")
        return bind_feeds(self.signature, self.calibration)

    @property
    def fixed(self) -> int | None:
        """The batch that the graph insists on."""
        return fixed_batch(self.signature)


def all_layers(graph: onnx.GraphProto) -> tuple[Layer, ...]:
    """Layers with weights and large embedding tables, in the graph's order. Unsupported for a quantised graph."""
    refuse_quantised(graph)
    known = {layer.name: layer for layer in (*large_tables(graph), *list_layers(graph))}
    return tuple(known[node.name] for node in graph.node if node.name in known)


def gather_statistics(graph: onnx.ModelProto, cases: Cases) -> Statistics:
    """What any static form of this graph may need, over all cases."""
    refuse_quantised(graph.graph)
    names = [node.name for node in layer_nodes(graph.graph)]
    if not names:
        raise Unsupported("no layer with constant float32 weights", op="MatMul")
    operators = "all" if resolve_operators(graph.graph, "auto") == "conv" else "linear"
    return _collect(graph, activation_tensors(graph.graph, names, operators), cases)


def compress_graph(graph: onnx.ModelProto, variant: Variant, cases: Cases) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """(compressed graph, facts). The given graph is changed. Raises Unsupported."""
    options = read_options(variant.options)
    layers = all_layers(graph.graph)
    chosen = choose_nodes(graph.graph, options, variant.keep_float)
    tables = [layer.name for layer in layers if layer.op == "Gather"]
    taken = [] if options.embeddings == "float" else [name for name in tables if name not in variant.keep_float]
    kept = [layer.name for layer in layers if layer.name not in {*chosen, *taken}]
    facts: dict[str, Any] = {
        "kept_float": sorted(kept), "quantised": len(chosen), "options": options.model_dump(),
    }  # fmt: skip
    made = graph
    if chosen:
        made, about = _FORMS[options.mode](graph, chosen, options, cases)
        facts |= about
    if taken:
        facts["embeddings"] = quantise_embeddings(made.graph, taken)
    return made, {**facts, "outputs": find_outputs(layers, made.graph)}


Formed = tuple["onnx.ModelProto", dict[str, Any]]


def _dynamic(graph: onnx.ModelProto, chosen: list[str], options: Compression, cases: Cases) -> Formed:
    from .int8 import quantise_dynamic

    return quantise_dynamic(graph, chosen, options), {}


def _static(graph: onnx.ModelProto, chosen: list[str], options: Compression, cases: Cases) -> Formed:
    from .int8 import quantise_static

    operators = resolve_operators(graph.graph, options.operators)
    tensors = activation_tensors(graph.graph, chosen, operators)
    if isinstance(cases.calibration, Artifact):
        statistics = load_statistics(cases.calibration.path)
    else:
        statistics = _collect(graph, tensors, cases)
    method = options.ranges if options.part != "weights" else "minmax"
    ranges = dict(choose_ranges(statistics, tensors, method))
    facts: dict[str, Any] = {"calibration": {"cases": statistics.cases, "ranges": method}}
    if options.equalise:
        facts["equalised"] = _equalise(graph, statistics, options, ranges)
    return quantise_static(graph, chosen, options, ranges), facts


def _equalise(
    graph: onnx.ModelProto, statistics: Statistics, options: Compression, ranges: dict[str, tuple[float, float]]
) -> dict[str, list[int]]:
    """Rescale pairs of layers and their ranges; first layer -> exponents of two its channels were divided by."""
    pairs: list[Pair] = find_pairs(graph.graph)
    exponents = choose_scales(graph.graph, pairs, statistics)
    if not exponents:
        raise Unsupported("cross-layer equalisation finds no pair of layers whose channels differ")
    rescale(graph.graph, pairs, exponents)
    scaled = scaled_ranges(pairs, exponents, statistics)
    ranges.update({name: ends for name, ends in scaled.items() if name in ranges})
    return {name: [int(value) for value in values] for name, values in exponents.items()}


def _weights(graph: onnx.ModelProto, chosen: list[str], options: Compression, cases: Cases) -> Formed:
    if options.algorithm in CALIBRATED:
        return _calibrated(graph, chosen, options, cases)
    from .weights import quantise_weights

    return quantise_weights(graph, chosen, options), {}


def _calibrated(graph: onnx.ModelProto, chosen: list[str], options: Compression, cases: Cases) -> Formed:
    from .calibrated import quantise_calibrated

    feeds, padding = cases.feeds, cases.signature.inputs.get("attention_mask")
    mask = None if padding is None else feeds[padding.name]
    made, about = quantise_calibrated(graph, chosen, options, feeds, mask, cases.fixed, cases.progress)
    return made, {"calibration": {"cases": len(next(iter(feeds.values()))), **about}}


def _nncf(graph: onnx.ModelProto, chosen: list[str], options: Compression, cases: Cases) -> Formed:
    from .nncf import quantise_nncf

    feeds = cases.feeds
    made = quantise_nncf(graph, chosen, options, feeds, cases.fixed, cases.progress)
    return made, {"calibration": {"cases": len(next(iter(feeds.values()))), "ranges": "nncf"}}


def _qnn(graph: onnx.ModelProto, chosen: list[str], options: Compression, cases: Cases) -> Formed:
    from .qnn import NOTE, quantise_qnn

    feeds = cases.feeds
    kept = [node.name for node in layer_nodes(graph.graph) if node.name not in set(chosen)]
    made = quantise_qnn(graph, kept, options, feeds, cases.fixed)
    return made, {"calibration": {"cases": len(next(iter(feeds.values()))), "ranges": "minmax"}, "notes": [NOTE]}


_FORMS: Mapping[str, Callable[..., Formed]] = {
    "dynamic": _dynamic, "static": _static, "weights": _weights, "nncf": _nncf, "qnn": _qnn,
}  # fmt: skip


def _collect(graph: onnx.ModelProto, tensors: list[str], cases: Cases) -> Statistics:
    pairs = find_pairs(graph.graph)
    wanted = {tensor: pair.axis for pair in pairs for tensor in pair.tensors if tensor in set(tensors)}
    wanted |= {pair.tensors[-1]: pair.axis for pair in pairs}
    names = list(dict.fromkeys([*tensors, *wanted]))
    return collect(graph, names, cases.feeds, channels=wanted, fixed=cases.fixed, progress=cases.progress)
