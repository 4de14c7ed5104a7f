"""An ML program read back from a saved package and computed with numpy: what its bytes mean, without Core ML.

Knows the operators of a text encoder and of small image nets (torch computes convolutions and poolings), in float32 whatever the package's precision; an unknown one is a KeyError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from edgeft_exporters.coreml.convert import quiet_coreml

TYPES = {"fp32": np.float32, "fp16": np.float32, "int32": np.int32}
_erf = np.vectorize(math.erf, otypes=[np.float32])


def evaluate(package: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of function `main` for inputs of the package's own shapes."""
    with quiet_coreml():
        import coremltools
        from coremltools.converters.mil.frontend.milproto import load

        spec = coremltools.utils.load_spec(str(package))
        weights = str(package / "Data" / "com.apple.CoreML" / "weights")
        program = load.load(spec, specification_version=spec.specificationVersion, file_weights_dir=weights)
    main = program.functions["main"]
    values: dict[Any, Any] = {main.inputs[name]: array for name, array in feeds.items()}
    for operation in main.operations:
        if operation.op_type == "const":
            continue
        given = {name: _value(item, values) for name, item in operation.inputs.items() if item is not None}
        values[operation.outputs[0]] = OPERATORS[operation.op_type](**given)
    return {item.name: values[item] for item in main.outputs}


def _value(item: Any, values: Mapping[Any, Any]) -> Any:
    if isinstance(item, tuple | list):
        return [_value(part, values) for part in item]
    value = values.get(item, item.val)
    return value.astype(np.float32) if getattr(value, "dtype", None) == np.float16 else value


def _layer_norm(x: Any, axes: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    axes = tuple(axes)
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon) * gamma + beta


def _softmax(x: Any, axis: Any) -> Any:
    raised = np.exp(x - x.max(int(axis), keepdims=True))
    return raised / raised.sum(int(axis), keepdims=True)


def _gelu(x: Any, mode: Any) -> Any:
    assert mode == "EXACT"
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def _gather(x: Any, indices: Any, axis: Any, batch_dims: Any = 0, validate_indices: Any = False) -> Any:
    assert batch_dims == 0
    return np.take(x, indices, int(axis))


def _matmul(x: Any, y: Any, transpose_x: Any, transpose_y: Any) -> Any:
    return (x.swapaxes(-1, -2) if transpose_x else x) @ (y.swapaxes(-1, -2) if transpose_y else y)


def _slice(x: Any, begin: Any, end: Any, end_mask: Any, squeeze_mask: Any) -> Any:
    stops = [None if open_end else int(stop) for stop, open_end in zip(end, end_mask, strict=True)]
    cut = x[tuple(slice(int(start), stop) for start, stop in zip(begin, stops, strict=True))]
    return cut.squeeze(tuple(int(axis) for axis in np.flatnonzero(squeeze_mask)))


def _dequantise(quantized_data: Any, zero_point: Any, scale: Any, axis: Any) -> Any:
    shape = [-1 if place == int(axis) else 1 for place in range(quantized_data.ndim)]
    zero, scales = (np.asarray(item, dtype=np.float32).reshape(shape) for item in (zero_point, scale))
    return (quantized_data.astype(np.float32) - zero) * scales


def _by_torch(compute: Callable[..., Any], x: Any, *weights: Any, **options: Any) -> Any:
    import torch

    return compute(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (x, *weights)), **options).numpy()


def _padded(x: Any, pad_type: str, pad: Any, fill: float = 0.0) -> Any:
    """Rows and columns around images, as `custom` states: above, below, left, right."""
    top, below, left, right = (int(n) for n in pad) if pad_type == "custom" else (0, 0, 0, 0)
    return np.pad(x, ((0, 0), (0, 0), (top, below), (left, right)), constant_values=fill)


def _conv(x: Any, weight: Any, bias: Any, strides: Any, pad_type: str, pad: Any, dilations: Any, groups: Any) -> Any:
    from torch.nn.functional import conv2d

    about = {"stride": tuple(map(int, strides)), "dilation": tuple(map(int, dilations)), "groups": int(groups)}
    return _by_torch(conv2d, _padded(x, pad_type, pad), weight, bias, **about)


def _conv_transpose(
    x: Any,
    weight: Any,
    bias: Any,
    strides: Any,
    pad_type: str,
    pad: Any,
    dilations: Any,
    groups: Any,
    output_shape: Any,
) -> Any:
    from torch.nn.functional import conv_transpose2d

    assert pad_type == "valid"
    about = {"stride": tuple(map(int, strides)), "dilation": tuple(map(int, dilations)), "groups": int(groups)}
    found = _by_torch(conv_transpose2d, x, weight, bias, **about)
    assert found.shape == tuple(output_shape)
    return found


def _max_pool(x: Any, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any) -> Any:
    from torch.nn.functional import max_pool2d

    given = _padded(x, pad_type, pad, -np.inf)
    return _by_torch(lambda t: max_pool2d(t, tuple(map(int, kernel_sizes)), tuple(map(int, strides))), given)


def _avg_pool(
    x: Any, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any, exclude_padding_from_average: Any
) -> Any:
    from torch.nn.functional import avg_pool2d

    given = _padded(x, pad_type, pad)
    return _by_torch(lambda t: avg_pool2d(t, tuple(map(int, kernel_sizes)), tuple(map(int, strides))), given)


def _batch_norm(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    mean, variance, gamma, beta = (part.reshape(-1, 1, 1) for part in (mean, variance, gamma, beta))
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def _upsample(x: Any, scale_factor_height: Any, scale_factor_width: Any, align_corners: Any) -> Any:
    from torch.nn.functional import interpolate

    scale = (float(scale_factor_height), float(scale_factor_width))
    corners = bool(align_corners)
    return _by_torch(lambda t: interpolate(t, scale_factor=scale, mode="bilinear", align_corners=corners), x)


OPERATORS = {
    "relu": lambda x: np.maximum(x, 0),
    "concat": lambda values, axis, interleave: np.concatenate(values, int(axis)),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "upsample_bilinear": _upsample,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "tanh": lambda x: np.tanh(x),
    "cast": lambda x, dtype: x.astype(TYPES[dtype]),
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(int(axis) for axis in axes)),
    "reshape": lambda x, shape: x.reshape(tuple(int(size) for size in shape)),
    "transpose": lambda x, perm: x.transpose(tuple(int(axis) for axis in perm)),
    "linear": lambda x, weight, bias: x @ weight.T + bias,
    "gather": _gather,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "matmul": _matmul,
    "slice_by_index": _slice,
    "softmax": _softmax,
    "constexpr_affine_dequantize": _dequantise,
}
