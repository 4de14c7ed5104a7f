"""8-bit OpenVINO models by NNCF: post-training quantisation on real cases, or weights alone."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edgeft.exporter import Unsupported
from edgeft.runtimes.ov import import_openvino, port_name

from ..joins import float_joins
from .graph import has_weights, layer_names, quiet
from .joins import places

Progress = Callable[[float, float], None]


def quantise(
    model: Any,
    feeds: Mapping[str, Any],
    kept: Collection[str],
    *,
    preset: str,
    model_type: str,
    overflow_fix: bool,
    ranges: str = "mixed",
    bias_correction: str = "fast",
    progress: Progress,
) -> Any:
    """Weights and activations in 8 bits by NNCF: SmoothQuant and fast bias correction on all cases.

    feeds: input name -> (n, ...). Cases are cut one batch at a time as NNCF asks for them, and of each only ranges and
    channel means are kept, so memory does not grow with n times the activations. Raises Unsupported.

    OpenVINO 2026.4 computed a UNet's transposed convolutions in float32 all the same, whatever the preset and the
    granularity of weights: 45% of its int8 form's time on one core. upsample.py does away with them first.
    """
    nncf = import_nncf()
    n, batch = len(next(iter(feeds.values()))), batch_size(model)
    starts = range(0, n, batch)
    ignored = sorted({*kept, *float_joins(places(model), kept)})
    served = _Served(feeds, n, batch, progress)
    transformer = model_type == "transformer" or (model_type == "auto" and has_attention(model))
    advanced = _advanced(nncf, overflow_fix, ranges, bias_correction)
    with silent():
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(starts, served.rows),
                preset=nncf.QuantizationPreset(preset),
                subset_size=len(starts),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None,
                fast_bias_correction=bias_correction != "accurate",
                advanced_parameters=advanced,
            )
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise Unsupported(f"NNCF cannot quantise this model: {_first(error)}") from error


def _advanced(nncf: Any, overflow_fix: bool, ranges: str, bias_correction: str) -> Any:
    """NNCF's parameters for these words."""
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Estimators

    names = {"minmax": "MINMAX", "mean-quantile": "MEAN_QUANTILE", "histogram": "HISTOGRAM"}
    chosen = {} if ranges == "mixed" else {"activations_range_estimator_params": getattr(Estimators, names[ranges])}
    fix = nncf.OverflowFix.ENABLE if overflow_fix else nncf.OverflowFix.DISABLE
    return nncf.AdvancedQuantizationParameters(
        overflow_fix=fix, disable_bias_correction=bias_correction == "none", **chosen
    )


def compress_weights(model: Any, keep_float: Collection[str]) -> Any:
    """Weights in 8 bits with a scale and zero point per output channel. Raises Unsupported."""
    nncf = import_nncf()
    check_names(model, keep_float)
    ignored = nncf.IgnoredScope(names=sorted(keep_float)) if keep_float else None
    with silent():
        try:
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=ignored)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unsupported(f"NNCF cannot compress this model's weights: {_first(error)}") from error


def choose_kept(model: Any, head: str, keep_float: Collection[str]) -> list[str]:
    """Names of the layers that stay float: those asked for, and a classifier's last linear layer.

    Unsupported where nothing is left to quantise, or a layer to keep is unknown.
    """
    if any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        raise Unsupported("the model is already quantised", op="FakeQuantize")
    check_names(model, keep_float)
    names = layer_names(model)
    if not names:
        raise Unsupported("no layer with constant weights", op="MatMul")
    kept = set(keep_float)
    classifies = any(len(port.get_partial_shape()) == 2 for port in model.outputs)
    if head == "float" and classifies and len(names) > 1:
        kept.add(names[-1])
    return sorted(kept)


def check_names(model: Any, names: Collection[str]) -> None:
    """Unsupported where a layer to keep in float is not there."""
    unknown = sorted(set(names) - {node.get_friendly_name() for node in model.get_ops()})
    if unknown:
        raise Unsupported(f"no layer is called '{unknown[0]}'")


def has_attention(model: Any) -> bool:
    """True where two activations are multiplied as matrices: NNCF then looks for attention and layer norms."""
    kinds = {node.get_type_name() for node in model.get_ops()}
    return "ScaledDotProductAttention" in kinds or any(
        node.get_type_name() == "MatMul" and not has_weights(node) for node in model.get_ops()
    )


def import_nncf() -> Any:
    """NNCF without telemetry, log lines and import warnings."""
    import_openvino()
    with quiet():
        import nncf

        nncf.set_log_level(logging.ERROR)
    return nncf


class _Served:
    """Rows of the calibration cases as NNCF asks for them, with progress."""

    def __init__(self, feeds: Mapping[str, Any], n: int, batch: int, progress: Progress) -> None:
        self.feeds, self.n, self.batch, self.progress = feeds, n, batch, progress

    def rows(self, start: int) -> dict[str, Any]:
        """One batch from row `start`; after the last row it repeats that one, as the worker does."""
        import numpy as np

        wanted = [min(index, self.n - 1) for index in range(start, start + self.batch)]
        self.progress(min(start + self.batch, self.n), self.n)
        return {name: np.ascontiguousarray(array[wanted]) for name, array in self.feeds.items()}


def batch_size(model: Any) -> int:
    """Cases of one run: 1 where the model takes any number."""
    shape = model.inputs[0].get_partial_shape()
    if not len(shape):
        raise Unsupported(f"input '{port_name(model.inputs[0])}' has no batch dimension")
    return int(shape[0].get_length()) if shape[0].is_static else 1


def _first(error: BaseException) -> str:
    from edgeft.runtimes.ov import short

    return short(error)[:300]


@contextmanager
def silent() -> Iterator[None]:
    """NNCF draws progress bars on standard output and warns of its dependencies."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        yield
