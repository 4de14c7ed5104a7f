"""ONNX for ONNX Runtime: a clean float graph, and its compressed variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeft.artifact import Artifact, Kind, Signature
from edgeft.canonical import Facts
from edgeft.exporter import Layer, Unsupported, Variant

from . import graph as graphs
from .quantise.ladder import all_rungs, default_ladder, repairs_of, saturates

if TYPE_CHECKING:
    import onnx

    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays

    from .front import Front

__all__ = ["OnnxExporter", "clean", "name_nodes", "saturates"]


class OnnxExporter:
    """torch model or ONNX file to model.onnx (and model.onnx.data above 1.9 GB), float32 and int8."""

    name: ClassVar[str] = "onnx"
    version: ClassVar[int] = 3
    makes: ClassVar[Kind] = "onnx"
    runtime: ClassVar[str] = "onnxruntime"
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "optimum", "onnx", "onnxscript", "onnxruntime")
    compresses: ClassVar[Literal["float", "source"]] = "float"
    embeds: ClassVar[frozenset[str]] = frozenset({"string", "bytes"})

    def __init__(self, external_above: int = graphs.EXTERNAL_ABOVE) -> None:
        self.external_above = external_above

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """Highest opset and IR version the device's runtime takes."""
        return {"opset": device.opset, "ir_version": device.ir_version}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float model.onnx with dynamic batch and sequence, in canonical bytes. Raises Unsupported."""
        from .image_file import embed_decoder
        from .tokenizer import embed

        if model.kind == "onnx":
            graph, facts = self._given(model, ctx)
        elif model.kind == "torch-model":
            graph, facts = self._traced(model, int(settings["opset"]), ctx)
        else:
            raise Unsupported(f"cannot export a {model.kind}")
        graph, cleaned = clean(graph)
        graph = graphs.stamp(graph, int(settings["opset"]), int(settings["ir_version"]))
        embedded = {**embed(graph, ctx), **embed_decoder(graph, ctx)}
        return {**facts, **cleaned, **embedded, **self._write(graph, out)}

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """int8-dynamic, then int8-static, which needs calibration. 7-bit weights where the CPU would saturate."""
        return default_ladder(device)

    def rungs(self, model: Artifact, device: Device) -> tuple[Variant, ...]:
        """What a search may try on this float graph. Raises Unsupported for a quantised one."""
        from .layers import refuse_quantised, resolve_operators

        graph = self._open(model)[0].graph
        refuse_quantised(graph)
        return all_rungs(device, resolve_operators(graph, "auto") == "conv")

    def possible_rungs(self, device: Device) -> tuple[Variant, ...]:
        """Those of encoders, then what convolutional graphs have besides."""
        found = {rung.name: rung for kind in (False, True) for rung in all_rungs(device, convolutional=kind)}
        return tuple(found.values())

    def calibrate(
        self, model: Artifact, settings: Mapping[str, Any], calibration: Arrays, out: Path, ctx: Context
    ) -> Facts:
        """statistics.json and statistics.safetensors of the float graph's activations. Raises Unsupported."""
        from .quantise.compress import Cases, gather_statistics
        from .quantise.statistics import save_statistics

        graph = self._open(model)[0]
        found = gather_statistics(graph, Cases(graphs.signature_of(graph.graph), calibration, _progress(ctx)))
        save_statistics(found, out)
        return {"cases": found.cases, "tensors": len(found.tensors)}

    def compress(
        self, model: Artifact, variant: Variant, calibration: Arrays | Artifact | None, out: Path, ctx: Context
    ) -> Facts:
        """Compressed model.onnx of a float one, the float graph itself where every layer is kept. Raises Unsupported.

        calibration: canonical feeds (n, ...), or the artefact of `calibrate`.
        """
        from .front import put_back
        from .quantise.compress import Cases, compress_graph

        graph, front = self._open(model)
        cases = Cases(graphs.signature_of(graph.graph), calibration, _progress(ctx))
        made, facts = compress_graph(graph, variant, cases)
        if front is not None:
            put_back(made, front)
            facts = {**facts, "notes": [*facts.get("notes", ()), front.packaging]}
        return {**facts, **self._write(made, out)}

    def layers(self, model: Artifact) -> tuple[Layer, ...]:
        """Linear layers, convolutions and large embedding tables, in order of execution."""
        from .quantise.compress import all_layers

        return all_layers(self._open(model)[0].graph)

    def tensors(self, model: Artifact, layers: tuple[str, ...], feeds: Arrays) -> Iterator[Mapping[str, Any]]:
        """Outputs of layers, float32, eight cases at a time. Channels that equalisation rescaled are scaled back."""
        from .tensors import bind_feeds, fixed_batch, read_tensors, undo_scales

        known = model.facts.get("outputs") or {layer.name: layer.output for layer in self.layers(model)}
        unknown = next((name for name in layers if name not in known), None)
        if unknown is not None:
            raise Unsupported(f"no layer is called '{unknown}'")
        graph = self._open(model)[0]
        signature = graphs.signature_of(graph.graph)
        wanted = {name: known[name] for name in layers}
        for batch in read_tensors(graph, wanted, bind_feeds(signature, feeds), fixed_batch(signature)):
            yield undo_scales(batch, model.facts.get("equalised", {}))

    def repairs(self, variant: Variant, device: Device) -> tuple[Variant, ...]:
        """Other ranges, equalisation, bias correction, and 16-bit activations where an accelerator has them."""
        return repairs_of(variant, device)

    def _open(self, model: Artifact) -> tuple[onnx.ModelProto, Front | None]:
        """The graph, and what stands in front of it taken off: that is no part of what is compressed or looked into."""
        from .front import detach

        graph = graphs.read_model(graphs.model_file(model))
        return graph, detach(graph)

    def signature(self, model: Artifact) -> Signature:
        """Canonical names to the graph's tensors."""
        return graphs.read_signature(graphs.model_file(model))

    def _traced(self, model: Artifact, opset: int, ctx: Context) -> tuple[onnx.ModelProto, dict[str, Any]]:
        from edgeft.models.load import load_model
        from edgeft.models.served import served

        from .torch_export import feed_specs, trace

        module = load_model(model, labels=ctx.labels, task=ctx.task.name, seed=ctx.seed)
        module = served(module, ctx.prepared)
        graph, facts = trace(module, feed_specs(module, ctx.prepared), opset)
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
        classes = logits.shape[1] if len(logits.shape) > 1 else None
        if ctx.labels and isinstance(classes, int) and classes != len(ctx.labels):
            raise Unsupported(f"output '{logits.name}' has {classes} classes, the data has {len(ctx.labels)} labels")
        return graph, {"from": "onnx"}

    def _write(self, graph: onnx.ModelProto, out: Path) -> dict[str, Any]:
        from .graph import opset_of, write_model

        operators = sorted({node.op_type for node in graph.graph.node})
        facts = {"opset": opset_of(graph), "ir_version": graph.ir_version, "nodes": len(graph.graph.node)}
        write_model(graph, out, self.external_above)
        return {**facts, "operators": operators, "bytes": sum(path.stat().st_size for path in out.iterdir())}


def clean(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Canonical form, weights as initializers, no IsNaN guards of masks; facts say what was left and why."""
    from .fold import fold_transposed_weights, lift_constants, name_folded_weights
    from .rewrite import remove_dead_nodes, remove_softmax_nan_guards

    name_folded_weights(model.graph)
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


def _progress(ctx: Context) -> Callable[[float, float], None]:
    return lambda done, total: ctx.progress(done, total, "case")
