"""Core ML packages: a torch model converted to model.mlpackage, float32, float16 and with int8 weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.artifact import Artifact, Kind, Signature, TensorSpec, read_signature, write_signature
from edgeft.canonical import Facts
from edgeft.exporter import Unsupported, Variant

from ..torch_capture import Source, capture, load_source

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays

MODEL = "model.mlpackage"
PADDING = -1e4
"""Added to attention scores of padding: representable in float16, and exp(-1e4) is 0 in every format."""


class Precision(BaseModel):
    """Options of a package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compute: Literal["float32", "float16"] = Field("float32", description="Type of activations and float weights.")
    weights: Literal["float", "int8"] = Field("float", description="int8: symmetric, a scale per output channel.")


class CoreMLExporter:
    """torch model to model.mlpackage (an ML program for iOS 16 / macOS 13 on) and signature.json, at the serve shape.

    Inputs are int32 under their canonical names, the output is `logits` in float32. Conversion runs on any system;
    prediction needs macOS, so elsewhere the facts say `verified: conversion only`.
    """

    name: ClassVar[str] = "coreml"
    version: ClassVar[int] = 3
    makes: ClassVar[Kind] = "coreml"
    runtime: ClassVar[str] = "coreml"
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "optimum", "coremltools")
    compresses: ClassVar[Literal["float", "source"]] = "source"

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """The serve shape, which is the package's: the Neural Engine takes fixed shapes only."""
        return {"batch": int(serve["batch"]), "length": int(serve["length"])}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """float32 model.mlpackage. Raises Unsupported with the operator's name."""
        return _make(model, settings, Precision(), out, ctx)

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """Half precision, what the Neural Engine computes in, then int8 weights on top; neither needs calibration."""
        return (
            Variant("fp16", {"compute": "float16"}),
            Variant("int8-weights", {"compute": "float16", "weights": "int8"}),
        )

    def compress(self, model: Artifact, variant: Variant, calibration: Arrays | None, out: Path, ctx: Context) -> Facts:
        """A package of another precision, from the source. Raises Unsupported."""
        options = dict(variant.options)
        settings = options.pop("settings", None)
        if settings is None:
            raise Unsupported("compressing to Core ML needs the export's settings")
        if variant.keep_float:
            raise Unsupported("coremltools names operators anew: layers cannot be kept in float by name")
        try:
            precision = Precision.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            raise Unsupported(f"option {first['loc'][0] if first['loc'] else '?'}: {first['msg']}") from error
        return {"options": precision.model_dump(), **_make(model, settings, precision, out, ctx)}

    def signature(self, model: Artifact) -> Signature:
        """What signature.json says."""
        try:
            return read_signature(model.path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unsupported("no signature.json beside model.mlpackage") from error


def _make(
    model: Artifact, settings: Mapping[str, Any], precision: Precision, out: Path, ctx: Context
) -> dict[str, Any]:
    from .convert import convert
    from .package import write_package

    source = load_source(model, settings, ctx, "a Core ML package")
    wide = (replace(spec, dtype="int32") if spec.dtype == "uint8" else spec for spec in source.specs)
    source = replace(source, specs=tuple(wide))  # captured with what the package takes: Core ML has no 8-bit inputs
    program = capture(source, PADDING)
    with TemporaryDirectory(prefix="edgeft-coreml-") as name:
        saved = Path(name) / MODEL
        converted = convert(program, source, precision.compute, precision.weights, saved)
        write_package(saved, out / MODEL)
    write_signature(out, signature_of(source, tuple(converted["shape"])))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {
        "from": "torch",
        "additive_mask": source.additive_mask,
        "operators": converted["operators"],
        "nodes": converted["nodes"],
        "specification": converted["specification"],
        "verified": "conversion only",
        "notes": ["converted here; Core ML predicts on Apple systems only, so its answers were not compared here"],
        "bytes": size,
    }


def signature_of(source: Source, shape: tuple[int, ...]) -> Signature:
    """Canonical names are the package's own; whole numbers go in as int32, logits of `shape` come out as float32."""
    from .convert import input_dtype

    inputs = {spec.name: TensorSpec(spec.name, input_dtype(spec), spec.shape) for spec in source.specs}
    return Signature(inputs, {"logits": TensorSpec("logits", "float32", shape)})
