"""PT2E quantisation for XNNPACK: linear and convolution layers in int8, embedding tables with a scale per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgeft.exporter import Layer, Unsupported

from ..onnx.embedding import LEAST_ELEMENTS
from ..torch_capture import Source, explain, linear_names, quiet_tools

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context


def quantise_program(
    source: Source,
    program: torch.export.ExportedProgram,
    cases: Sequence[tuple[torch.Tensor, ...]],
    mode: Literal["dynamic", "static"],
    head: Literal["float", "int8"],
    keep_float: frozenset[str],
    ctx: Context,
) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """The program with int8 weights (symmetric, a scale per output channel) and int8 activations, and facts.

    By operator, not for the whole graph: XNNPACK's quantiser would also take the additions of token indices.
    cases: inputs that the observers see, one run each; the dynamic form needs one for its weights.
    """
    import torch

    layers = choose_layers(program, mode, head, keep_float)
    with quiet_tools(), torch.no_grad():
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=mode == "dynamic")
        quantiser = XNNPACKQuantizer()
        for target in targets_of(mode):
            quantiser.set_operator_type(target, config)
        quantiser.set_filter_function(lambda node: node.name in layers["chosen"])
        try:
            prepared = prepare_pt2e(program.module(), quantiser)
            for done, case in enumerate(cases, start=1):
                prepared(*case)
                ctx.progress(done, len(cases), "batch")
            converted = torch.export.export(convert_pt2e(prepared), source.example(), strict=False)
        except Exception as error:  # observers and passes raise whatever they meet
            reason, op = explain(error)
            raise Unsupported(f"PT2E cannot quantise this model: {reason}", op=op) from error
    return converted, {"quantised": len(layers["chosen"]), "kept_float": sorted(layers["kept"].values())}


def targets_of(mode: str) -> tuple[Any, ...]:
    """Operators that are quantised. Dynamic convolutions cost more than they save, so those are static only."""
    import torch

    aten = torch.ops.aten
    return (aten.linear.default,) if mode == "dynamic" else (
        aten.linear.default, aten.conv1d.default, aten.conv2d.default,
    )  # fmt: skip


def list_layers(program: torch.export.ExportedProgram) -> list[Layer]:
    """Layers that a static form quantises, in order; torch's names stand for their outputs too."""
    found = []
    for node, name in linear_names(program, targets_of("static")).items():
        weights = sum(value.meta["val"].numel() for value in node.all_input_nodes[1:])
        found.append(Layer(name, str(node.target).removesuffix(".default"), int(weights), name))
    return found


def keeps_every_layer(program: torch.export.ExportedProgram, mode: str, keep_float: frozenset[str]) -> bool:
    """Nothing that this mode quantises is left."""
    names = set(linear_names(program, targets_of(mode)).values())
    return bool(names) and names <= keep_float


def choose_layers(
    program: torch.export.ExportedProgram, mode: str, head: str, keep_float: frozenset[str]
) -> dict[str, dict[str, str]]:
    """{"chosen", "kept"}: graph node's name -> layer's name. Unsupported where nothing is left to quantise.

    A layer is named as in the torch model; the last one is the head.
    """
    found = {node.name: layer for node, layer in linear_names(program, targets_of(mode)).items()}
    unknown = sorted(keep_float - set(found.values()))
    if unknown:
        raise Unsupported(f"no layer is called '{unknown[0]}'")
    last = next(reversed(found), "") if head == "float" and len(found) > 1 else ""
    kept = {name: layer for name, layer in found.items() if layer in keep_float or name == last}
    chosen = {name: layer for name, layer in found.items() if name not in kept}
    if not chosen:
        raise Unsupported("no linear layer to quantise", op="aten.linear")
    return {"chosen": chosen, "kept": kept}


def split_embeddings(module: torch.nn.Module) -> list[str]:
    """Replace, in place, large embedding tables by int8 rows with a scale each; returns their names.

    A tied table (its weight is another layer's too) stays: it would no longer be one.
    """
    import torch

    from .rows import RowEmbedding

    users: dict[int, int] = {}
    for child in module.modules():
        for parameter in child.parameters(recurse=False):
            users[id(parameter)] = users.get(id(parameter), 0) + 1
    done = []
    for name, child in list(module.named_modules()):
        large = type(child) is torch.nn.Embedding and child.weight.numel() >= LEAST_ELEMENTS
        if large and child.max_norm is None and users[id(child.weight)] == 1:
            module.set_submodule(name, RowEmbedding(child.weight))
            done.append(name)
    return sorted(done)
