"""Static 8-bit ONNX graphs by NNCF: SmoothQuant for transformers, and (fast) bias correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from ...joins import float_joins
from ..graph import canonicalise
from ..layers import CONVOLUTION, LINEAR, layer_nodes, resolve_operators
from ..rewrite import Uses
from ..tensors import cut_batches
from .int8 import quiet
from .neighbours import places
from .options import Compression

if TYPE_CHECKING:
    import onnx


def quantise_nncf(
    model: onnx.ModelProto,
    nodes: Sequence[str],
    options: Compression,
    feeds: Mapping[str, Any],
    fixed: int | None,
    progress: Callable[[float, float], None],
) -> onnx.ModelProto:
    """QDQ by NNCF's post-training quantisation on all cases (input name -> (n, ...)), of which it keeps ranges alone.

    SmoothQuant (Xiao et al. 2022, arXiv 2211.10438) where activations are multiplied with each other, bias correction
    of layers by the mean of their outputs. In graphs without convolutions only `nodes` are quantised, not what lies
    between them. Raises Unsupported where NNCF is not installed or stops.
    """
    nncf, silent = _import()
    canonicalise(model)
    chosen = set(nodes)
    linear = resolve_operators(model.graph, options.operators) == "linear"
    layers = {node.name for node in layer_nodes(model.graph)}
    joins = set(float_joins(places(model.graph, layers), layers - chosen))
    ignored = sorted(joins | {node.name for node in model.graph.node if _ignored(node, chosen, linear)})
    correct = options.bias_correction
    fix = nncf.OverflowFix.ENABLE if options.reduce_range else nncf.OverflowFix.DISABLE
    batches = _Batches(feeds, fixed, progress)
    with quiet(), silent():
        try:
            made = nncf.quantize(
                model,
                nncf.Dataset(range(len(batches)), batches.at),
                subset_size=len(batches),
                model_type=nncf.ModelType.TRANSFORMER if options.smooth and _has_attention(model.graph) else None,
                fast_bias_correction=correct != "accurate",
                ignored_scope=nncf.IgnoredScope(names=ignored, validate=False) if ignored else None,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=fix, disable_bias_correction=correct == "none"
                ),
            )
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise Unsupported(f"NNCF cannot quantise this model: {first}") from error
    result: onnx.ModelProto = made
    canonicalise(result)
    return result


def _import() -> tuple[Any, Any]:
    try:
        from ...openvino.quantise import import_nncf, silent

        return import_nncf(), silent
    except ImportError as error:
        raise Unsupported("NNCF is not installed: pip install 'edgeft[openvino]'") from error


def _ignored(node: onnx.NodeProto, chosen: set[str], linear: bool) -> bool:
    """Layers that stay float, and with linear layers alone everything that is none."""
    return node.name not in chosen and (linear or node.op_type in (*LINEAR, *CONVOLUTION))


def _has_attention(graph: onnx.GraphProto) -> bool:
    """Two activations are multiplied as matrices."""
    uses = Uses(graph)
    return any(node.op_type == "MatMul" and not set(node.input) & set(uses.constant) for node in graph.node)


class _Batches:
    """Cases one batch at a time, as NNCF asks for them."""

    def __init__(self, feeds: Mapping[str, Any], fixed: int | None, progress: Callable[[float, float], None]) -> None:
        self.feeds, self.fixed, self.progress, self.step = feeds, fixed, progress, fixed or 1
        self.n = len(next(iter(feeds.values())))

    def __len__(self) -> int:
        return -(-self.n // self.step)

    def at(self, index: int) -> dict[str, Any]:
        """Batch `index`; the last one of a fixed batch repeats its last case."""
        start = index * self.step
        part = {name: array[start : start + self.step] for name, array in self.feeds.items()}
        self.progress(min(start + self.step, self.n), self.n)
        return next(cut_batches(part, self.step, self.fixed))[0]
