"""OpenVINO's model.xml + model.bin: float32 pinned, half precision where the CPU has it, and NNCF's 8-bit forms.

Made from the same clean ONNX graph that ONNX Runtime gets. On a MiniLM (one core, 64 tokens, NNCF int8) the graphs of
torch.export, with fused and with plain attention, were within 5% of it: the kernels are the same in all of them.
Telemetry of OpenVINO and NNCF is switched off; edgeft/runtimes/ov.py says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.artifact import Artifact, Kind, Signature, read_signature, write_signature
from edgeft.canonical import Facts
from edgeft.exporter import Layer, Unsupported, Variant

from ..onnx.exporter import OnnxExporter, saturates

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays

MODEL = "model.xml"
TRACED = {"opset": 20, "ir_version": 10}
GIVEN = {"opset": 25, "ir_version": 13}
"""A given ONNX file is not lowered: OpenVINO says itself what it does not read."""
BF16 = frozenset({"avx512_bf16", "amx_bf16"})
F16 = frozenset({"avx512_fp16", "amx_fp16", "fphp", "asimdhp"})


class Compression(BaseModel):
    """Options of the compressed variants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["bf16", "f16", "int8-weights", "int8-static"] = Field(description="What is stored and computed in.")
    model_type: Literal["auto", "transformer", "none"] = Field("auto", description="auto: by products of activations.")
    preset: Literal["mixed", "performance"] = Field(
        "mixed", description="Activations asymmetric (mixed) or symmetric (performance); equally fast on a MONAI UNet."
    )
    overflow_fix: bool = Field(False, description="Half the weight range: x86 without VNNI saturates u8 x s8 sums.")
    head: Literal["float", "int8"] = Field("float", description="The last linear layer of a classifier.")
    ranges: Literal["mixed", "minmax", "mean-quantile", "histogram"] = Field(
        "mixed", description="NNCF's range estimators; mixed: its default, extremes of weights, means for activations."
    )
    bias_correction: Literal["none", "fast", "accurate"] = Field("fast", description="int8-static only.")


class OpenVinoExporter:
    """torch model or ONNX file to model.xml with static shapes, float32, half precision and int8."""

    name: ClassVar[str] = "openvino"
    version: ClassVar[int] = 2
    makes: ClassVar[Kind] = "openvino"
    runtime: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = (*OnnxExporter.tools, "openvino", "nncf")
    compresses: ClassVar[Literal["float", "source"]] = "float"

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """The serve shape: static shapes were 4% (float) to 10% (int8) faster on a MiniLM than dynamic ones."""
        return {"serve": dict(sorted(serve.items()))}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float32 model.xml, model.bin and signature.json. Raises Unsupported with the operator's name."""
        from .graph import fix_shapes, layer_names, read_onnx, save

        with TemporaryDirectory(prefix="edgeft-openvino-") as name:
            folder, onnx = Path(name), OnnxExporter()
            facts = onnx.export(model, GIVEN if model.kind == "onnx" else TRACED, folder, ctx)
            graph = read_onnx(folder / "model.onnx")
            fix_shapes(graph, settings.get("serve", {}))
            save(graph, out / MODEL, "f32")
            write_signature(out, _signature(onnx.signature(Artifact("onnx", folder, "")), graph))
        kept = {key: facts[key] for key in ("from", "additive_mask", "nan_guards_left") if key in facts}
        return {**kept, "precision": "f32", "layers": layer_names(graph), **_written(graph, out)}

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """Half precision where the CPU computes in it, 8-bit weights, then all in 8 bits, which needs calibration."""
        halves = [Variant(kind, {"mode": kind}) for kind in half_precisions(device)]
        static = Variant(
            "int8-static", {"mode": "int8-static", "overflow_fix": saturates(device)}, needs_calibration=True
        )
        return (*halves, Variant("int8-weights", {"mode": "int8-weights"}), static)

    def rungs(self, model: Artifact, device: Device) -> tuple[Variant, ...]:
        """The ladder, then static forms with other ranges. NNCF takes its own statistics, so each runs all cases."""
        return self.possible_rungs(device)

    def possible_rungs(self, device: Device) -> tuple[Variant, ...]:
        """The same for every model."""
        ladder = self.ladder(device)
        static = ladder[-1]
        others = tuple(
            replace(static, name=f"int8-static-{ranges}", options={**static.options, "ranges": ranges})
            for ranges in ("minmax", "mean-quantile", "histogram")
        )
        return (*ladder, *others)

    def layers(self, model: Artifact) -> tuple[Layer, ...]:
        """Linear layers and convolutions with constant weights, in order of execution."""
        from .graph import read_xml
        from .tensors import list_layers

        return list_layers(read_xml(model.path / MODEL))

    def tensors(self, model: Artifact, layers: tuple[str, ...], feeds: Arrays) -> Iterator[Mapping[str, Any]]:
        """Outputs of layers as float32, in batches of the model's own size."""
        from .graph import read_xml
        from .quantise import batch_size
        from .tensors import read_tensors

        graph = read_xml(model.path / MODEL)
        bound = _calibration(self.signature(model), feeds)
        return read_tensors(graph, layers, bound, batch_size(graph))

    def repairs(self, variant: Variant, device: Device) -> tuple[Variant, ...]:
        """Static forms with ranges of least error by histograms, and with accurate bias correction."""
        options = dict(variant.options)
        if options.get("mode") != "int8-static":
            return ()
        changes = {"histogram": {"ranges": "histogram"}, "bias-corrected": {"bias_correction": "accurate"}}
        return tuple(
            replace(variant, name=f"{variant.name}-{suffix}", options={**options, **change})
            for suffix, change in changes.items()
            if any(options.get(key) != value for key, value in change.items())
        )

    def compress(
        self, model: Artifact, variant: Variant, calibration: Arrays | Artifact | None, out: Path, ctx: Context
    ) -> Facts:
        """Compressed model.xml of the float one, its signature beside it. Raises Unsupported with the reason.

        bf16 and f16 store weights as float16 and state the precision to compute in. int8-weights stores them in 8 bits
        with a scale per output channel; OpenVINO's CPU plugin then takes activations to 8 bits as they come, where it
        has kernels for that. int8-static is NNCF's post-training quantisation on the calibration cases.
        """
        from . import quantise as nncf
        from .graph import layer_names, read_xml, save
        from .upsample import rewrite_transposed

        try:
            options = Compression.model_validate(dict(variant.options))
        except ValidationError as error:
            first = error.errors()[0]
            raise Unsupported(f"option {first['loc'][0] if first['loc'] else '?'}: {first['msg']}") from error
        signature = self.signature(model)
        graph = read_xml(model.path / MODEL)
        facts: dict[str, Any] = {"options": options.model_dump(), "precision": "f32"}
        if options.mode in ("bf16", "f16"):
            facts["precision"] = options.mode
        elif options.mode == "int8-weights":
            graph = nncf.compress_weights(graph, variant.keep_float)
            facts["kept_float"] = sorted(variant.keep_float)
        elif variant.keep_float >= set(layer_names(graph)):
            facts["kept_float"] = sorted(variant.keep_float)  # nothing is left to quantise: the float model itself
        else:
            feeds = _calibration(signature, calibration)
            kept = nncf.choose_kept(graph, options.head, variant.keep_float)
            rewritten = rewrite_transposed(graph, kept)
            graph = nncf.quantise(
                graph, feeds, kept, preset=options.preset, model_type=options.model_type,
                overflow_fix=options.overflow_fix, ranges=options.ranges, bias_correction=options.bias_correction,
                progress=lambda done, total: ctx.progress(done, total, "case"),
            )  # fmt: skip
            facts |= {
                "kept_float": kept,
                "rewritten": rewritten,
                "calibration": {"cases": len(next(iter(feeds.values())))},
            }
        save(graph, out / MODEL, facts["precision"])
        write_signature(out, signature)
        return {**facts, **_written(graph, out)}

    def signature(self, model: Artifact) -> Signature:
        """Canonical names to the model's tensors, from signature.json."""
        try:
            return read_signature(model.path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unsupported("the OpenVINO artefact has no readable signature.json") from error


def half_precisions(device: Device) -> tuple[str, ...]:
    """bf16, f16 or both, by the flags of the device's CPU; none where they are not known."""
    from edgeft.device.conditions import cpu_flags

    flags = frozenset(device.cpu_flags or (cpu_flags() if device.architecture == "host" else ()))
    return tuple(name for name, wanted in (("bf16", BF16), ("f16", F16)) if wanted & flags)


def _signature(onnx: Signature, graph: Any) -> Signature:
    """The ONNX file's canonical names, with the shapes and dtypes the OpenVINO model has now."""
    from .graph import port_spec

    inputs = {name: port for port in graph.inputs for name in port.get_names()}
    outputs = {name: port for port in graph.outputs for name in port.get_names()}
    return Signature(
        inputs={name: port_spec(spec.name, inputs[spec.name]) for name, spec in onnx.inputs.items()},
        outputs={name: port_spec(spec.name, outputs[spec.name]) for name, spec in onnx.outputs.items()},
    )


def _calibration(signature: Signature, calibration: Arrays | Artifact | None) -> dict[str, Any]:
    """Feeds by the model's own names and dtypes. Unsupported where a needed one is missing or there are no cases."""
    if not calibration or isinstance(calibration, Artifact) or not len(next(iter(calibration.values()))):
        raise Unsupported("static quantisation needs calibration cases")
    missing = sorted(set(signature.inputs) - set(calibration))
    if missing:
        raise Unsupported(f"the calibration cases have no '{missing[0]}'")
    return {spec.name: calibration[name].astype(spec.dtype) for name, spec in signature.inputs.items()}


def _written(graph: Any, out: Path) -> dict[str, Any]:
    operators = sorted({node.get_type_name() for node in graph.get_ops()} - {"Parameter", "Result", "Constant"})
    return {"operators": operators, "bytes": sum((out / name).stat().st_size for name in (MODEL, "model.bin"))}
