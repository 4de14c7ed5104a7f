"""8-bit weights by ai-edge-quantizer: dynamic (activation scales from each input) and static (calibrated)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeft.exporter import Unsupported

from . import file as files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .file import Layer


NAMES = {files.TRANSPOSED: "CONV_2D_TRANSPOSE"}
"""Operators that ai-edge-quantizer calls otherwise than the file does."""
STATIC_ONLY = (files.DEPTHWISE,)
"""Float in dynamic forms: LiteRT's delegate takes no such layer, and on one core of a busy AMD EPYC a MobileNetV2 was
2.3 times slower than float with them, 1.6 times faster without."""


class Int8(BaseModel):
    """Options of the 8-bit variants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["dynamic", "static"] = Field(description="Activation scales from each input, or from calibration.")
    head: Literal["float", "int8"] = Field("float", description="The last layer.")
    embeddings: Literal["float", "int8-rows"] = Field("int8-rows", description="Large embedding tables.")
    least: int = Field(65536, ge=0, description="Tables with fewer elements stay float: a copy beats an int8 lookup.")
    cases: int = Field(64, ge=1, le=100_000, description="Static only: calibration cases, evenly spaced.")
    ranges: Literal["minmax", "average"] = Field("average", description="Static only: how ranges are taken.")


def choose_layers(layers: Sequence[Layer], options: Int8, keep_float: Iterable[str]) -> list[Layer]:
    """Layers that stay float: the head, what a dynamic form cannot take, and what `keep_float` names (a layer, or a
    module with layers in it).

    Unsupported where a name fits nothing. All layers may be among them.
    """
    if not layers:
        raise Unsupported("no linear layer or convolution with constant float32 weights", op=files.LINEAR)
    kept = {layer.name for layer in layers if options.mode == "dynamic" and layer.op in STATIC_ONLY}
    kept |= {layers[-1].name} if options.head == "float" and len(layers) > 1 else set()
    for wanted in keep_float:
        found = {layer.name for layer in layers if layer.name == wanted or layer.name.startswith(f"{wanted}.")}
        if not found:
            raise Unsupported(f"no layer is called '{wanted}'")
        kept |= found
    return [layer for layer in layers if layer.name in kept]


def quantise_file(
    source: Path, folder: Path, options: Int8, keep_float: Iterable[str], feeds: Path | None
) -> dict[str, Any]:
    """model.tflite in `folder` and facts on it. feeds: .npz of canonical calibration feeds (n, ...), static only."""
    from ai_edge_quantizer.quantizer import Quantizer

    model = files.read_tflite(source)
    layers, tables = files.list_layers(model), files.list_layers(model, (files.EMBEDDING,))
    done = next((layer.op for layer in layers if layer.dtype == "int8"), None)
    if done is not None:
        raise Unsupported("the model is already quantised", op=done)
    kept = choose_layers(layers, options, keep_float)
    if len(kept) == len(layers):  # nothing is left to quantise: the float file itself, tables and all
        (folder / files.TFLITE).write_bytes(source.read_bytes())
        return {"kept_float": [layer.name for layer in kept], "quantised": 0, "embeddings": []}
    large = [table for table in tables if table.elements >= options.least and options.embeddings == "int8-rows"]
    quantiser = Quantizer(str(source))
    quantiser.load_quantization_recipe(make_recipe(options, kept, large))
    calibrated, used = (None, 0) if feeds is None else _calibrate(source, quantiser, model, options, feeds)
    try:
        result = quantiser.quantize(calibrated, enable_progress_bar=False, enable_progress_report=False)
    except (RuntimeError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise Unsupported(f"ai-edge-quantizer cannot take this model: {first}") from error
    (folder / files.TFLITE).write_bytes(result.quantized_model)
    facts: dict[str, Any] = {
        "kept_float": [layer.name for layer in kept], "quantised": len(layers) - len(kept),
        "embeddings": [table.name for table in large],
    }  # fmt: skip
    return facts | ({"calibration": {"cases": used, "ranges": options.ranges}} if feeds else {})


def make_recipe(options: Int8, kept: Iterable[Layer], tables: Iterable[Layer]) -> list[dict[str, Any]]:
    """ai-edge-quantizer's recipe; a scope is the name of the layer's output and a semicolon, the last match wins.

    Only layers with weights: measured on a MiniLM, 8-bit GELU, softmax and attention products made it 1.6 times slower,
    a UNet with 8-bit normalisations was no faster than float, and a MobileNetV2 gained nothing by them.
    """
    weight: dict[str, Any] = {"num_bits": 8, "symmetric": True, "dtype": "INT", "granularity": "CHANNELWISE"}
    integer = {"weight_tensor_config": weight, "compute_precision": "INTEGER", "explicit_dequantize": False}
    rows = dict(integer)
    layer_config = dict(integer)
    if options.mode == "static":
        layer_config["activation_tensor_config"] = {
            "num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"
        }  # fmt: skip
    how = "min_max_uniform_quantize"
    kinds = [kind for kind in files.LAYERS if options.mode == "static" or kind not in STATIC_ONLY]
    found: list[dict[str, Any]] = [
        {"regex": ".*", "operation": NAMES.get(kind, kind), "algorithm_key": how, "op_config": layer_config}
        for kind in kinds
    ]
    for layer in kept:
        scope = f"^{re.escape(layer.scope)};$"
        found.append({"regex": scope, "operation": NAMES.get(layer.op, layer.op), "algorithm_key": "no_quantize"})
    for table in tables:
        scope = f"^{re.escape(table.scope)};$"
        found.append({"regex": scope, "operation": files.EMBEDDING, "algorithm_key": how, "op_config": rows})
    return found


def _calibrate(source: Path, quantiser: Any, model: Any, options: Int8, feeds: Path) -> tuple[dict[str, Any], int]:
    """Ranges of the activations and the number of cases; one case's activations are in memory at a time."""
    import numpy as np
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.utils import qsv_utils

    signature = files.signature_of(model)
    with np.load(feeds, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in signature.inputs}
    batch = next((int(spec.shape[0]) for spec in signature.inputs.values() if spec.shape), 1)
    batches = spread_cases(arrays, options.cases, batch)
    batches = [{name: rows.astype(signature.inputs[name].dtype) for name, rows in feed.items()} for feed in batches]
    update = qsv_utils.min_max_update if options.ranges == "minmax" else qsv_utils.moving_average_update
    calibrator = Calibrator(str(source), num_threads=1, qsv_update_func=update)
    key = model.signatureDefs[0].signatureKey.decode()
    calibrator.calibrate({key: batches}, quantiser._recipe_manager)
    return calibrator.get_model_qsvs(), min(len(next(iter(arrays.values()))), options.cases)


def spread_cases(arrays: Mapping[str, NDArray[Any]], most: int, batch: int = 1) -> list[dict[str, NDArray[Any]]]:
    """At most `most` cases, evenly spaced over all, in groups of exactly `batch` (the last repeats its last case)."""
    n = len(next(iter(arrays.values())))
    chosen = [index * n // min(n, most) for index in range(min(n, most))]
    groups = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]
    filled = [group + group[-1:] * (batch - len(group)) for group in groups]
    return [{name: array[group] for name, array in arrays.items()} for group in filled]
