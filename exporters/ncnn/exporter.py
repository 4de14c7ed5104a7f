"""ncnn's model.param + model.bin through pnnx: float32, and float16 weights.

There is no int8 candidate: the wheels of ncnn and pnnx carry no calibration tools (ncnn2table, ncnn2int8 are built from
source), and edgeft makes no quantiser of its own. pnnx and ncnn send nothing over the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeft.artifact import Artifact, Kind, Signature, TensorSpec, read_signature, write_signature
from edgeft.canonical import Facts, canonical_json
from edgeft.exporter import Unsupported, Variant
from edgeft.runtimes.ncnn_net import PRECISION, Layer

from .trace import Input

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays

MODEL, WEIGHTS = "model.param", "model.bin"
HALF = "fp16"


class NcnnExporter:
    """torch model, or ONNX file of a convolutional net, to model.param with fixed shapes of one case."""

    name: ClassVar[str] = "ncnn"
    version: ClassVar[int] = 1
    makes: ClassVar[Kind] = "ncnn"
    runtime: ClassVar[str] = "ncnn"
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "optimum", "onnx", "onnxscript", "pnnx", "ncnn")
    compresses: ClassVar[Literal["float", "source"]] = "source"

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """The serve shape of one case: {length}, or {height, width, channels} of an image. ncnn knows no batch."""
        return {"serve": {name: size for name, size in sorted(serve.items()) if name != "batch"}}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float32 model.param, model.bin and signature.json. Raises Unsupported with the operator's name."""
        return _make(model, settings, False, out, ctx)

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """fp16: half the size everywhere, and computed in float16 on ARM from v8.2 on; x86 computes in float32."""
        return (Variant(HALF, {"mode": HALF}),)

    def compress(self, model: Artifact, variant: Variant, calibration: Arrays | None, out: Path, ctx: Context) -> Facts:
        """The same net with float16 weights, and ncnn.json, which tells the runtime that it may compute in float16."""
        options = dict(variant.options)
        settings = options.pop("settings", None)
        if settings is None:
            raise Unsupported("compressing to ncnn needs the export's settings")
        if options != {"mode": HALF}:
            raise Unsupported(f"ncnn has one compressed form, fp16, not {options}")
        if variant.keep_float:
            raise Unsupported("pnnx stores all weights alike: no layer can be kept in float32")
        return _make(model, settings, True, out, ctx)

    def signature(self, model: Artifact) -> Signature:
        """Canonical names to the net's in0, in1 ... and out0, from signature.json."""
        try:
            return read_signature(model.path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unsupported("the ncnn artefact has no readable signature.json") from error


def _make(model: Artifact, settings: Mapping[str, Any], half: bool, out: Path, ctx: Context) -> dict[str, Any]:
    from .pnnx import convert

    serve = settings.get("serve", {})
    with TemporaryDirectory(prefix="edgeft-ncnn-") as name:
        folder = Path(name)
        if model.kind == "torch-model":
            source, inputs, outputs, facts = _traced(model, serve, folder, ctx)
        elif model.kind == "onnx":
            source, inputs, outputs, facts = _given(model, serve, folder, ctx)
        else:
            raise Unsupported(f"cannot export a {model.kind}")
        layers = convert(source, inputs, half=half, threads=ctx.threads)
        for made, kept in (("ncnn.param", MODEL), ("ncnn.bin", WEIGHTS)):
            (out / kept).write_bytes((folder / made).read_bytes())
    write_signature(out, _signature(inputs, outputs))
    if half:
        (out / PRECISION).write_bytes(canonical_json({"fp16": True}, indent=1))
    return {**facts, "precision": HALF if half else "f32", **_about(layers, out)}


def _traced(model: Artifact, serve: Mapping[str, int], folder: Path, ctx: Context) -> Any:
    from edgeft.models.load import load_model

    from .trace import trace

    module = load_model(model, labels=ctx.labels, task=ctx.task.name, seed=ctx.seed)
    inputs, logits, facts = trace(module, serve, ctx.prepared, folder / "source.pt")
    return folder / "source.pt", inputs, {"logits": logits}, {"from": "torch", **facts}


def _given(model: Artifact, serve: Mapping[str, int], folder: Path, ctx: Context) -> Any:
    from .trace import fix_onnx

    source = folder / "source.onnx"
    inputs, outputs = fix_onnx(model, serve, source, ctx)
    return source, inputs, outputs, {"from": "onnx"}


def _signature(inputs: list[Input], outputs: Mapping[str, tuple[int, ...]]) -> Signature:
    """pnnx calls tensors in0, in1 ... and out0 by their order; the batch is the runtime's loop."""
    dtypes = {"int64": "int32"}
    return Signature(
        inputs={
            item.name: TensorSpec(f"in{index}", dtypes.get(item.dtype, item.dtype), ("batch", *item.shape[1:]))
            for index, item in enumerate(inputs)
        },
        outputs={
            name: TensorSpec(f"out{index}", "float32", ("batch", *shape[1:]))
            for index, (name, shape) in enumerate(outputs.items())
        },
    )


def _about(layers: list[Layer], out: Path) -> dict[str, Any]:
    kinds = sorted({layer.type for layer in layers} - {"Input", "Split"})
    size = sum((out / name).stat().st_size for name in (MODEL, WEIGHTS))
    return {"operators": kinds, "layers": len(layers), "bytes": size}
