"""A torch.export program as a Core ML program, by coremltools."""

from __future__ import annotations

import functools
import gc
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import TensorSpec
from edgeft.exporter import Unsupported

from ..torch_capture import Source, explain, quiet_tools

if TYPE_CHECKING:
    import torch

LEAST_WEIGHTS = 2048
"""Elements below which a weight stays float: coremltools' own threshold, nothing to gain."""
NO_CONVERSION = re.compile(r"Unsupported fx node ([\w.:]+)|function for op '?([\w.:]+)'? not implemented")


def convert(
    program: torch.export.ExportedProgram, source: Source, compute: str, weights: str, out: Path
) -> dict[str, Any]:
    """Save a package at `out` (*.mlpackage); {"operators", "nodes", "specification", "shape" of the logits} of it.

    The program is decomposed to core ATen first, which coremltools covers best (TorchScript of this torch version fails
    in its `int`). Raises Unsupported with the operator's name.
    """
    with quiet_coreml():
        try:
            model = _convert(_spelt_out(program.run_decompositions({})), source, compute)
            if weights == "int8":
                model = _quantise(model)
            model.save(str(out))
        except Exception as error:  # its frontends raise whatever they meet
            reason, op = name_operator(error)
            release(error)
            raise Unsupported(f"coremltools cannot convert this model: {reason}", op=op) from error
        spec = model.get_spec()
        block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
        operators = [operation.type for operation in block.operations if operation.type != "const"]
        shape = spec.description.output[0].type.multiArrayType.shape
        del model
        gc.collect()
    return {
        "operators": sorted(set(operators)),
        "nodes": len(operators),
        "specification": int(spec.specificationVersion),
        "shape": [int(size) for size in shape],
    }


def input_dtype(spec: TensorSpec) -> str:
    """Core ML takes no 64-bit and no 8-bit numbers."""
    return "float32" if spec.dtype.startswith("float") else "int32"


def _spelt_out(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """What coremltools does not know in forms that it does: a pooling's default stride, a choice between a tensor and
    a number (the mask that a vision transformer makes of no mask)."""
    import torch

    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target in (aten.max_pool2d.default, aten.avg_pool2d.default) and len(node.args) == 2:
            node.args = (*node.args, node.args[1])
        elif node.target == aten.where.ScalarOther:
            condition, tensor, number = node.args
            with program.graph.inserting_before(node):
                other = program.graph.call_function(aten.full_like.default, (tensor, number))
            other.meta["val"] = tensor.meta["val"]
            node.target, node.args = aten.where.self, (condition, tensor, other)
    return program


def _convert(program: torch.export.ExportedProgram, source: Source, compute: str) -> Any:
    import coremltools
    import numpy as np

    precision = coremltools.precision
    return coremltools.convert(
        program,
        inputs=[
            coremltools.TensorType(name=spec.name, shape=spec.shape, dtype=np.dtype(input_dtype(spec)).type)
            for spec in source.specs
        ],
        outputs=[coremltools.TensorType(name="logits", dtype=np.float32)],
        convert_to="mlprogram",
        compute_precision=precision.FLOAT16 if compute == "float16" else precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS16,
        skip_model_load=True,
    )


def _quantise(model: Any) -> Any:
    from coremltools.optimize import coreml

    config = coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=LEAST_WEIGHTS
    )
    return coreml.linear_quantize_weights(model, coreml.OptimizationConfig(global_config=config))


def name_operator(error: BaseException) -> tuple[str, str]:
    """(reason, operator's name or empty) of a failed conversion."""
    reason, op = explain(error)
    found = NO_CONVERSION.search(str(error))
    return reason, next(filter(None, found.groups()), op) if found else op


def release(error: BaseException) -> None:
    """Drop what the frames of a failure hold: among it a temporary folder that coremltools closes only by collection.

    Collected here, in silence, it does not warn later at a place that has nothing to do with it.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    gc.collect()


@contextmanager
def quiet_coreml() -> Iterator[None]:
    """No progress bars, no log lines on versions of torch that coremltools was not tested with. It has no telemetry."""
    import tqdm  # type: ignore[import-untyped,unused-ignore]

    shown = tqdm.tqdm.__init__
    tqdm.tqdm.__init__ = functools.partialmethod(shown, disable=True)
    try:
        with quiet_tools():
            yield
    finally:
        tqdm.tqdm.__init__ = shown
