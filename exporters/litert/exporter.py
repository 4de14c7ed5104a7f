"""LiteRT (TensorFlow Lite): torch models of static shape through litert-torch, float32 and 8-bit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ValidationError

from edgeft.artifact import Artifact, Kind, Signature, entry_file, read_signature, write_signature
from edgeft.canonical import Facts
from edgeft.exporter import Layer, Unsupported, Variant

from . import file as files
from .process import run_child

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays


class LiteRTExporter:
    """torch model to model.tflite and signature.json. Inputs are int32, as litert-torch makes them of int64."""

    name: ClassVar[str] = "litert"
    version: ClassVar[int] = 2
    makes: ClassVar[Kind] = "litert"
    runtime: ClassVar[str] = "litert"
    tools: ClassVar[tuple[str, ...]] = (
        "torch", "transformers", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer",
    )  # fmt: skip
    compresses: ClassVar[Literal["float", "source"]] = "float"

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """The one shape the artefact takes."""
        return {"batch": int(serve.get("batch", 1)), "length": int(serve["length"])}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float model.tflite of shape (batch, length). Raises Unsupported with the operator's name where it has one."""
        if model.kind != "torch-model":
            raise Unsupported(f"LiteRT is exported from a torch model, and this is given as {model.kind}")
        request = {
            "kind": "convert", "labels": list(ctx.labels), "task": ctx.task.name, "seed": ctx.seed,
            "prepared": str(ctx.prepared) if ctx.prepared else "", **settings,
            "model": {"kind": model.kind, "path": str(model.path), "digest": model.digest, "facts": dict(model.facts)},
        }  # fmt: skip
        return self._run(request, None, out, ctx)

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """int8-dynamic, then int8-static, which needs calibration."""
        return (
            Variant("int8-dynamic", {"mode": "dynamic"}),
            Variant("int8-static", {"mode": "static"}, needs_calibration=True),
        )

    def layers(self, model: Artifact) -> tuple[Layer, ...]:
        """Linear layers and convolutions with constant weights, in order of execution, under torch's names.

        In static forms a layer's output is in 8 bits too: an outlier in it asks for both of its ends in float.
        """
        found = files.list_layers(files.read_tflite(entry_file(model.path)))
        return tuple(Layer(layer.name, layer.op, layer.elements, layer.scope) for layer in found)

    def tensors(self, model: Artifact, layers: tuple[str, ...], feeds: Arrays) -> Iterator[Mapping[str, Any]]:
        """Outputs of layers as float32, in batches of the file's own size."""
        from .tensors import layer_outputs, read_tensors

        path = entry_file(model.path)
        outputs = layer_outputs(files.read_tflite(path), layers)
        return read_tensors(path, outputs, self._check_feeds(model, feeds))

    def repairs(self, variant: Variant, device: Device) -> tuple[Variant, ...]:
        """Other ranges; ai-edge-quantizer has no bias correction or equalisation to offer."""
        options, found = dict(variant.options), []
        if options.get("mode") == "static" and options.get("ranges", "average") != "minmax":
            found.append(replace(variant, name=f"{variant.name}-minmax", options={**options, "ranges": "minmax"}))
        return tuple(found)

    def compress(
        self, model: Artifact, variant: Variant, calibration: Arrays | Artifact | None, out: Path, ctx: Context
    ) -> Facts:
        """8-bit model.tflite of a float one. Raises Unsupported where nothing can be quantised."""
        from .quantise import Int8

        try:
            options = Int8.model_validate(dict(variant.options))
        except ValidationError as error:
            first = error.errors()[0]
            raise Unsupported(f"option {first['loc'][0] if first['loc'] else '?'}: {first['msg']}") from error
        source = entry_file(model.path)
        feeds = self._check_feeds(model, calibration) if options.mode == "static" else None
        request = {
            "kind": "quantise", "source": str(source), "options": options.model_dump(),
            "keep_float": sorted(variant.keep_float),
        }  # fmt: skip
        return {**self._run(request, feeds, out, ctx), "options": options.model_dump()}

    def signature(self, model: Artifact) -> Signature:
        """What signature.json says."""
        return read_signature(model.path)

    def _check_feeds(self, model: Artifact, calibration: Arrays | Artifact | None) -> dict[str, Any]:
        if not calibration or isinstance(calibration, Artifact) or not len(next(iter(calibration.values()))):
            raise Unsupported("static quantisation needs calibration cases")
        found = {}
        for name, spec in self.signature(model).inputs.items():
            if name not in calibration:
                raise Unsupported(f"the calibration cases have no '{name}'")
            if tuple(calibration[name].shape[1:]) != spec.shape[1:]:
                have = list(calibration[name].shape[1:])
                raise Unsupported(f"the calibration cases of '{name}' are {have}, the artefact takes {spec.shape[1:]}")
            found[name] = calibration[name]
        return found

    def _run(self, request: Mapping[str, Any], feeds: Mapping[str, Any] | None, out: Path, ctx: Context) -> Facts:
        """Have the child make the model, then move it to `out` with its signature."""
        import numpy as np

        with tempfile.TemporaryDirectory(prefix="litert-", dir=ctx.scratch) as name:
            folder = Path(name).absolute()
            if feeds is not None:
                np.savez(folder / "feeds.npz", **feeds)
            facts = run_child(request, folder, ctx.threads)
            shutil.move(folder / files.TFLITE, out / files.TFLITE)
        model = files.read_tflite(out / files.TFLITE)
        write_signature(out, files.signature_of(model))
        size = (out / files.TFLITE).stat().st_size
        operators = files.count_operators(model)
        return {**facts, "operators": sorted(operators), "nodes": sum(operators.values()), "bytes": size}
