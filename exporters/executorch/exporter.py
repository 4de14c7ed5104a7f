"""ExecuTorch programs for XNNPACK: a torch model lowered to model.pte, float32 and int8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.artifact import Artifact, Kind, Signature, TensorSpec, read_signature, write_signature
from edgeft.canonical import Facts
from edgeft.exporter import Layer, Unsupported, Variant

from ..torch_capture import Source, batches, capture, load_source

if TYPE_CHECKING:
    import torch

    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays

MODEL = "model.pte"


class Int8(BaseModel):
    """Options of the 8-bit variants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["dynamic", "static"] = Field(description="Activation scales from each input, or from calibration.")
    head: Literal["float", "int8"] = Field("float", description="The last linear layer.")
    embeddings: Literal["float", "int8-rows"] = Field("int8-rows", description="Large embedding tables.")


class ExecuTorchExporter:
    """torch model to model.pte and signature.json at the serve shape; what XNNPACK lacks runs on portable kernels.

    The shape is fixed because XNNPACK's delegate leaves reshapes of dynamic size to the portable kernels: a MiniLM of
    sequence 64 falls into 50 delegated parts instead of 26 (14 once `executorch_lower` has dropped no-op expansions).
    A .pte keeps no tensor names: they go by position.
    """

    name: ClassVar[str] = "executorch"
    version: ClassVar[int] = 2
    makes: ClassVar[Kind] = "executorch"
    runtime: ClassVar[str] = "executorch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "optimum", "executorch", "torchao")
    compresses: ClassVar[Literal["float", "source"]] = "source"

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """The serve shape, which is the program's."""
        return {"batch": int(serve["batch"]), "length": int(serve["length"])}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float model.pte. Raises Unsupported with the operator's name."""
        from .quantise import list_layers

        source = load_source(model, settings, ctx, "an ExecuTorch program")
        program = capture(source)
        layers = [asdict(layer) for layer in list_layers(program)]
        return {**_write(source, program, out), "layers": layers}

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """int8-dynamic, then int8-static, which needs calibration."""
        return (
            Variant("int8-dynamic", {"mode": "dynamic"}),
            Variant("int8-static", {"mode": "static"}, needs_calibration=True),
        )

    def layers(self, model: Artifact) -> tuple[Layer, ...]:
        """Linear layers and convolutions under torch's names, as the export recorded them: a .pte file has none."""
        rows = model.facts.get("layers")
        if rows is None:
            raise Unsupported("the artefact does not say which layers it has: export the model again")
        return tuple(Layer(**row) for row in rows)

    def tensors(self, model: Artifact, layers: tuple[str, ...], feeds: Arrays) -> Iterator[Mapping[str, Any]]:
        """A program gives its own outputs and no others: always Unsupported. Layers are tried one by one instead."""
        raise Unsupported("a .pte program cannot be asked for the outputs of single layers")

    def repairs(self, variant: Variant, device: Device) -> tuple[Variant, ...]:
        """None: XNNPACK's quantiser gives every layer a scale per channel, and offers no other ranges or bits."""
        return ()

    def compress(
        self, model: Artifact, variant: Variant, calibration: Arrays | Artifact | None, out: Path, ctx: Context
    ) -> Facts:
        """8-bit model.pte by PT2E with XNNPACK's quantiser. Raises Unsupported where nothing can be quantised."""
        from .quantise import keeps_every_layer, quantise_program, split_embeddings

        settings, options = read_options(variant)
        if options.mode == "static" and (not calibration or isinstance(calibration, Artifact)):
            raise Unsupported("static quantisation needs calibration cases")
        source = load_source(model, settings, ctx, "an ExecuTorch program")
        program = capture(source)
        if keeps_every_layer(program, options.mode, variant.keep_float):  # nothing is left to quantise
            about = {"options": options.model_dump(), "embeddings": [], "quantised": 0}
            return {**about, "kept_float": sorted(variant.keep_float), **_write(source, program, out)}
        tables = split_embeddings(source.module) if options.embeddings == "int8-rows" else []
        cases = [source.example()]
        n = 0
        if options.mode == "static" and calibration and not isinstance(calibration, Artifact):
            n = len(next(iter(calibration.values())))
            cases = list(batches(source, calibration))
        program, facts = quantise_program(
            source, capture(source), cases, options.mode, options.head, variant.keep_float, ctx
        )
        about = {"options": options.model_dump(), "embeddings": tables, **facts}
        if n:
            about["calibration"] = {"cases": n, "ranges": "histogram"}
        return {**about, **_write(source, program, out)}

    def signature(self, model: Artifact) -> Signature:
        """What signature.json says."""
        try:
            return read_signature(model.path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unsupported("no signature.json beside model.pte: a .pte file keeps no tensor names") from error


def read_options(variant: Variant) -> tuple[Mapping[str, Any], Int8]:
    """(the export's settings, the variant's own options). Unsupported where they are not valid."""
    options = dict(variant.options)
    settings = options.pop("settings", None)
    if settings is None:
        raise Unsupported("compressing to ExecuTorch needs the export's settings")
    try:
        return settings, Int8.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        raise Unsupported(f"option {first['loc'][0] if first['loc'] else '?'}: {first['msg']}") from error


def _write(source: Source, program: torch.export.ExportedProgram, out: Path) -> dict[str, Any]:
    from .lower import lower

    raw, facts = lower(program)
    (out / MODEL).write_bytes(raw)
    write_signature(out, signature_of(source, program))
    size = sum(path.stat().st_size for path in out.iterdir())
    return {"from": "torch", "additive_mask": source.additive_mask, **facts, "bytes": size}


def signature_of(source: Source, program: torch.export.ExportedProgram) -> Signature:
    """Canonical feeds to positions, with the program's sizes; logits as the program returns them."""
    inputs = {
        spec.name: TensorSpec(f"input_{index}", spec.dtype, spec.shape) for index, spec in enumerate(source.specs)
    }
    (result,) = next(iter(node for node in program.graph.nodes if node.op == "output")).args[0]
    value = result.meta["val"]
    dtype = str(value.dtype).removeprefix("torch.")
    outputs = {"logits": TensorSpec("output_0", dtype, tuple(int(size) for size in value.shape))}
    return Signature(inputs, outputs)
