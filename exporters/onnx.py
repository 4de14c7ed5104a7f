"""ONNX for ONNX Runtime: a clean float graph, and its 8-bit variants."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ValidationError

from edgeft.artifact import Artifact, Kind, Signature
from edgeft.canonical import Facts
from edgeft.exporter import Unsupported, Variant

from . import onnx_graph as graphs

if TYPE_CHECKING:
    import onnx

    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays

FAST_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


class OnnxExporter:
    """torch model or ONNX file to model.onnx (and model.onnx.data above 1.9 GB), float32 and int8."""

    name: ClassVar[str] = "onnx"
    version: ClassVar[int] = 1
    makes: ClassVar[Kind] = "onnx"
    runtime: ClassVar[str] = "onnxruntime"
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "optimum", "onnx", "onnxscript", "onnxruntime")
    compresses: ClassVar[Literal["float", "source"]] = "float"
    embeds: ClassVar[frozenset[str]] = frozenset({"string"})

    def __init__(self, external_above: int = graphs.EXTERNAL_ABOVE) -> None:
        self.external_above = external_above

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """Highest opset and IR version the device's runtime takes."""
        return {"opset": device.opset, "ir_version": device.ir_version}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float model.onnx with dynamic batch and sequence, in canonical bytes. Raises Unsupported."""
        from .onnx_tokenizer import embed

        if model.kind == "onnx":
            graph, facts = self._given(model, ctx)
        elif model.kind == "torch-model":
            graph, facts = self._traced(model, int(settings["opset"]), ctx)
        else:
            raise Unsupported(f"cannot export a {model.kind}")
        graph, cleaned = clean(graph)
        graph = graphs.stamp(graph, int(settings["opset"]), int(settings["ir_version"]))
        embedded = embed(graph, ctx)
        return {**facts, **cleaned, **embedded, **self._write(graph, out)}

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """int8-dynamic, then int8-static, which needs calibration. 7-bit weights where the CPU would saturate."""
        narrow = saturates(device)
        return (
            Variant("int8-dynamic", {"mode": "dynamic", "reduce_range": narrow}),
            Variant("int8-static", {"mode": "static", "reduce_range": narrow}, needs_calibration=True),
        )

    def compress(self, model: Artifact, variant: Variant, calibration: Arrays | None, out: Path, ctx: Context) -> Facts:
        """8-bit model.onnx of a float one. Raises Unsupported where nothing can be quantised."""
        from .onnx_embedding import quantise_embeddings
        from .onnx_quantize import Int8, choose_nodes, linear_nodes, quantise_dynamic, quantise_static
        from .onnx_tokenizer import PACKAGING, detach, put_back

        try:
            options = Int8.model_validate(dict(variant.options))
        except ValidationError as error:
            first = error.errors()[0]
            raise Unsupported(f"option {first['loc'][0] if first['loc'] else '?'}: {first['msg']}") from error
        graph = graphs.read_model(graphs.model_file(model))
        front = detach(graph)
        nodes = choose_nodes(graph.graph, options, variant.keep_float)
        linear = [node.name for node in linear_nodes(graph.graph)]
        facts: dict[str, Any] = {"kept_float": sorted(set(linear) - set(nodes)), "quantised": len(nodes)}
        if options.mode == "static":
            ranges = self._ranges(graphs.signature_of(graph.graph), graph, nodes, calibration, options.ranges, ctx)
            facts["calibration"] = {
                "cases": len(next(iter((calibration or {}).values()), ())),
                "ranges": options.ranges,
            }
        if options.embeddings == "int8-rows":
            facts["embeddings"] = quantise_embeddings(graph.graph)
        if options.mode == "static":
            graph = quantise_static(graph, nodes, options, ranges)
        else:
            graph = quantise_dynamic(graph, nodes, options)
        if front is not None:
            put_back(graph, front)
            facts["notes"] = [PACKAGING]
        return {**facts, "options": options.model_dump(), **self._write(graph, out)}

    def signature(self, model: Artifact) -> Signature:
        """Canonical names to the graph's tensors."""
        return graphs.read_signature(graphs.model_file(model))

    def _traced(self, model: Artifact, opset: int, ctx: Context) -> tuple[onnx.ModelProto, dict[str, Any]]:
        from edgeft.models.load import load_model

        from .onnx_torch import feed_names, trace

        module = load_model(model, labels=ctx.labels, task=ctx.task.name, seed=ctx.seed)
        graph, facts = trace(module, feed_names(module, ctx.prepared), opset)
        return graph, {"from": "torch", **facts}

    def _given(self, model: Artifact, ctx: Context) -> tuple[onnx.ModelProto, dict[str, Any]]:
        import onnx

        path = graphs.model_file(model)
        graph = graphs.read_model(path)
        graphs.check_operators(graph)
        if graph.functions:
            graph = onnx.inliner.inline_local_functions(graph)
        logits = graphs.read_signature(path).outputs.get("logits")
        if logits is None:
            raise Unsupported("the model has no output")
        classes = logits.shape[-1] if logits.shape else None
        if ctx.labels and isinstance(classes, int) and classes != len(ctx.labels):
            raise Unsupported(f"output '{logits.name}' has {classes} classes, the data has {len(ctx.labels)} labels")
        return graph, {"from": "onnx"}

    def _ranges(
        self,
        signature: Signature,
        graph: onnx.ModelProto,
        nodes: list[str],
        calibration: Arrays | None,
        method: Any,
        ctx: Context,
    ) -> Mapping[str, tuple[float, float]]:
        from .onnx_ranges import collect_ranges

        if not calibration:
            raise Unsupported("static quantisation needs calibration cases")
        chosen = set(nodes)
        tensors = sorted({node.input[0] for node in graph.graph.node if node.name in chosen})
        inputs = signature.inputs
        missing = sorted(set(inputs) - set(calibration))
        if missing:
            raise Unsupported(f"the calibration cases have no '{missing[0]}'")
        feeds = {spec.name: calibration[name].astype(spec.dtype) for name, spec in inputs.items()}
        return collect_ranges(graph, tensors, feeds, method, lambda done, total: ctx.progress(done, total, "case"))

    def _write(self, graph: onnx.ModelProto, out: Path) -> dict[str, Any]:
        from .onnx_graph import opset_of, write_model

        operators = sorted({node.op_type for node in graph.graph.node})
        facts = {"opset": opset_of(graph), "ir_version": graph.ir_version, "nodes": len(graph.graph.node)}
        write_model(graph, out, self.external_above)
        return {**facts, "operators": operators, "bytes": sum(path.stat().st_size for path in out.iterdir())}


def clean(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Canonical form, weights as initializers, no IsNaN guards of masks; facts say what was left and why."""
    from .onnx_fold import fold_transposed_weights, lift_constants
    from .onnx_rewrite import remove_dead_nodes, remove_softmax_nan_guards

    graphs.canonicalise(model)
    lift_constants(model.graph)
    fold_transposed_weights(model.graph)
    left = remove_softmax_nan_guards(model.graph)
    remove_dead_nodes(model.graph)
    name_nodes(model.graph)
    return model, {"nan_guards_left": left}


def name_nodes(graph: onnx.GraphProto) -> None:
    """Nodes without a name, or with one taken, get one from their place: quantisers and `keep_float` go by name."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def saturates(device: Device) -> bool:
    """True for x86 without VNNI or AMX, where u8 x s8 sums clip at 16 bits; not known (another x86 machine): True."""
    from edgeft.device.conditions import cpu_flags

    here = device.architecture == "host"
    machine = platform.machine().lower() if here else device.architecture
    flags = device.cpu_flags or (cpu_flags() if here else ())
    return machine in ("x86_64", "amd64", "i686") and not FAST_INT8.intersection(flags)
