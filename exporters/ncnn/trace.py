"""What pnnx reads: a TorchScript trace of one case, or an ONNX graph with fixed shapes, in a folder that goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.exporter import Unsupported

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context

HIDDEN = -1e4
"""Added to the scores of padding. exp(-1e4) is 0 in every format, and float16, which ends at 65504, holds it; the
lowest float32 would be infinite there, and what is not padding 0 x inf."""
IMAGE = ("channels", "height", "width")


@dataclass(frozen=True)
class Input:
    """One input of the net: canonical name, dtype, and shape with a batch of 1."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def trace(
    module: torch.nn.Module, serve: Mapping[str, int], prepared: Path | None, path: Path
) -> tuple[list[Input], tuple[int, ...], dict[str, Any]]:
    """(inputs, shape of the logits, facts) of the TorchScript file written to `path`. Raises Unsupported.

    The attention mask goes in as float32: ncnn has no conversion from integers. Attention is the plain one: pnnx's
    fused attention (SDPA) converts too, but leaves the mask out (logits of a MiniLM were off by 1.6).
    """
    import torch

    from edgeft.models.served import served as served_module

    from ..onnx.torch_export import first_line, use_eager_attention
    from ..torch_capture import quiet_tools

    module = served_module(module, prepared)
    inputs = served_inputs(module, serve, prepared)
    with quiet_tools():
        use_eager_attention(module)
        additive = _additive(module, inputs)
        served = _served(module, [item.name for item in inputs], additive)
        example = tuple(_example(item, module) for item in inputs)
        with torch.no_grad():
            try:
                traced = torch.jit.trace(served, example, check_trace=False)
                logits = tuple(served(*example).shape)
            except (
                RuntimeError,
                ValueError,
                TypeError,
                IndexError,
                KeyError,
                AttributeError,
                NotImplementedError,
            ) as error:
                raise Unsupported(f"torch cannot trace this model: {first_line(error)}") from error
            traced.save(str(path))
    return inputs, logits, {"additive_mask": additive}


def served_inputs(module: torch.nn.Module, serve: Mapping[str, int], prepared: Path | None) -> list[Input]:
    """Text: what preprocessing makes and the model takes, (1, length). Else one image (1, channels, height, width).

    channels: 3 unless serve states it. Unsupported where serve does not state the sizes, or the model takes more.
    """
    from edgeft.models.predict import accepted_feeds

    from ..onnx.torch_export import feed_names, feed_specs

    accepted = accepted_feeds(module)
    if "input_ids" in accepted:
        if "length" not in serve:
            raise Unsupported("ncnn needs a fixed length: state serve.length")
        kinds = {"attention_mask": "float32"}
        names = feed_names(module, prepared)
        return [Input(name, kinds.get(name, "int64"), (1, int(serve["length"]))) for name in names]
    if prepared is not None:
        declared = feed_specs(module, prepared)
        # ncnn computes in floats: pixels go in as such, and the conversion in the graph is none.
        return [Input(spec.name, "float32", (1, *(int(size) for size in spec.shape[1:]))) for spec in declared]
    if "height" not in serve or "width" not in serve:
        raise Unsupported(
            f"ncnn needs the sizes of '{', '.join(sorted(accepted))}': state serve.height and serve.width"
        )
    if len(accepted) != 1:
        raise Unsupported(f"the model takes {', '.join(sorted(accepted))}; this exporter gives it one image")
    return [Input(next(iter(accepted)), "float32", (1, *(int(serve.get(name, 3)) for name in IMAGE)))]


def fix_onnx(
    model: Artifact, serve: Mapping[str, int], path: Path, ctx: Context
) -> tuple[list[Input], dict[str, tuple[int, ...]]]:
    """(inputs, output shapes) of the cleaned ONNX file written to `path`, its open dimensions fixed for one case."""
    import onnx

    from ..onnx.exporter import OnnxExporter
    from ..openvino.exporter import GIVEN

    exporter = OnnxExporter()
    exporter.export(model, GIVEN, path.parent, ctx)
    source = path.parent / "model.onnx"
    signature = exporter.signature(Artifact("onnx", path.parent, ""))
    inputs = [Input(name, spec.dtype, _fixed(spec.shape, serve, spec.name)) for name, spec in signature.inputs.items()]
    graph = onnx.load(str(source))
    names = {spec.name: item for spec, item in zip(signature.inputs.values(), inputs, strict=True)}
    for value in graph.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, names[value.name].shape, strict=True):
            dim.dim_value = size
    graph = onnx.shape_inference.infer_shapes(graph, data_prop=True)
    onnx.save(graph, str(path))
    outputs = {}
    for canonical, spec in signature.outputs.items():
        value = next(item for item in graph.graph.output if item.name == spec.name)
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        outputs[canonical] = (1, *sizes[1:])
    return inputs, outputs


def _fixed(shape: tuple[int | str, ...], serve: Mapping[str, int], name: str) -> tuple[int, ...]:
    axes = ("batch", "length") if len(shape) == 2 else ("batch", *IMAGE)
    found = [1]
    for axis, extent in list(enumerate(shape))[1:]:
        size = extent if isinstance(extent, int) else serve.get(axes[axis]) if axis < len(axes) else None
        if size is None:
            raise Unsupported(f"dimension '{extent}' of '{name}' is open: ncnn needs it fixed, by serve")
        found.append(int(size))
    if not shape or (isinstance(shape[0], int) and shape[0] != 1):
        raise Unsupported(f"'{name}' has shape {list(shape)}: ncnn takes one case, a first dimension of 1")
    return tuple(found)


def _additive(module: torch.nn.Module, inputs: list[Input]) -> bool:
    from ..onnx.torch_export import example_feeds, wants_additive_mask

    names = [item.name for item in inputs]
    return "attention_mask" in names and wants_additive_mask(module, example_feeds(module, names))


def _served(module: torch.nn.Module, names: list[str], additive: bool) -> torch.nn.Module:
    """Positional inputs in, logits out."""
    import torch

    from edgeft.models.layers import predicts_tokens
    from edgeft.models.predict import forward_logits

    from ..onnx.torch_export import hidden_scores

    causal = predicts_tokens(module)

    class Served(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            feeds = dict(zip(names, tensors, strict=True))
            if additive:
                mask = feeds["attention_mask"]  # floats already: a conversion would be traced as an operator
                plain = (1.0 - mask[:, None, None, :]) * HIDDEN
                feeds["attention_mask"] = hidden_scores(mask, HIDDEN, causal=True) if causal else plain
            return forward_logits(self.model, feeds)

    return Served().eval()


def _example(item: Input, module: torch.nn.Module) -> torch.Tensor:
    """A valid value of an input: ids from 1 up, a mask of ones, zeros for types, an image of a ramp."""
    import torch

    if item.name == "input_ids":
        vocabulary = int(getattr(getattr(module, "config", None), "vocab_size", 0) or 3)
        return (torch.arange(item.shape[1])[None, :] % max(1, vocabulary - 1)) + 1
    if item.name == "attention_mask":
        return torch.ones(item.shape)
    if item.dtype == "int64":
        return torch.zeros(item.shape, dtype=torch.int64)
    count = 1
    for size in item.shape:
        count *= size
    return torch.linspace(0, 1, count).reshape(item.shape)
