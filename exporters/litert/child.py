"""Runs litert-torch or ai-edge-quantizer in a process of its own: `python -m edgeft_exporters.litert.child FOLDER`.

FOLDER holds request.json, and gets answer.json and the model. Both tools print a lot, change process-wide settings and
run compiled converters that can abort: none of it reaches the process that builds. Neither sends telemetry.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from edgeft.artifact import TensorSpec

PADDED = 3
"""Rows of the example are padded by 0, 3, 6, ... tokens, so that masks matter in what is compared."""


def convert(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """torch model -> model.tflite of static shape with canonical names. Raises Unsupported and StepError."""
    from edgeft.artifact import Artifact
    from edgeft.models.load import load_model
    from edgeft.models.served import served

    from ..onnx.torch_export import feed_specs, traceable, use_eager_attention, wants_additive_mask
    from ..torch_capture import fixed_specs
    from . import file as files

    given = request["model"]
    artifact = Artifact(given["kind"], Path(given["path"]), given["digest"], given["facts"])
    module = load_model(artifact, labels=request["labels"], task=request["task"], seed=request["seed"])
    prepared = Path(request["prepared"]) if request["prepared"] else None
    weights = weight_names(module)  # before a front is put around it: layers keep the names of the user's own model
    module = served(module, prepared)
    specs = fixed_specs(feed_specs(module, prepared), request)
    names = tuple(spec.name for spec in specs)
    use_eager_attention(module)
    feeds = make_example(module, specs)
    additive = wants_additive_mask(module, feeds)
    graph, skipped = trace_graph(traceable(module, names, additive_mask=additive), tuple(feeds.values()))
    target = folder / files.TFLITE
    _to_tflite(graph, tuple(feeds.values()), target)
    model = files.read_tflite(target)
    files.name_tensors(model, names, ("logits",), weights)
    files.write_tflite(model, target)
    return {
        "additive_mask": additive,
        "rows_skipped": skipped,
        "layers": [layer.name for layer in files.list_layers(model)],
    }


def make_example(module: torch.nn.Module, specs: Sequence[TensorSpec]) -> dict[str, torch.Tensor]:
    """A text's feeds, int64 (batch, length): valid token ids, masks with padding at the end, zeros for the rest; ramps
    for others. specs: with every size filled in."""
    import torch

    from ..onnx.torch_export import ramp

    texts = [spec for spec in specs if spec.dtype == "int64" and len(spec.shape) == 2]
    if len(texts) < len(specs):
        return {spec.name: ramp(spec, {}) for spec in specs}
    batch, length = (int(size) for size in specs[0].shape)
    size = int(getattr(getattr(module, "config", None), "vocab_size", 2))
    used = torch.tensor([max(1, length - PADDED * (row + 1) % length) for row in range(batch)])
    mask = (torch.arange(length)[None, :] < used[:, None]).to(torch.int64)
    ids = (torch.arange(batch * length).reshape(batch, length) * 7919 + 1) % max(2, size)
    known = {"input_ids": ids, "attention_mask": mask}
    return {spec.name: known.get(spec.name, torch.zeros(batch, length, dtype=torch.int64)) for spec in specs}


def trace_graph(served: torch.nn.Module, feeds: Any) -> tuple[torch.nn.Module, int]:
    """ATen graph of the model, respelt where that leaves the answer as it was; how many operators skip unread rows."""
    import torch

    from ..onnx.torch_export import LEAST_LOGIT, SAME_MASK
    from .legal import crop_transposed_convolutions
    from .rows import skip_unread_rows

    with torch.no_grad():
        graph: Any = torch.export.export(served, feeds).module()
        before = graph(*feeds)
        crop_transposed_convolutions(graph)
        skipped = skip_unread_rows(graph)
        after = graph(*feeds)
        limit = SAME_MASK * max(LEAST_LOGIT, float(before.abs().max()))
        if after.shape != before.shape or not float((after - before).abs().max()) <= limit:
            return torch.export.export(served, feeds).module(), 0
    return graph, skipped


LAYOUTS = {2: ((0, 1),), 4: ((0, 2, 3, 1), (1, 2, 3, 0))}
"""Axes of a torch weight as the file has them: a matrix; a convolution; a depthwise or transposed one."""


def weight_names(module: torch.nn.Module) -> dict[str, list[str]]:
    """Digest of a weight as the file has it -> names of the modules that have it, in module order.

    A convolution whose normalisation the converter folded into it is found by none of them.
    """
    from .file import digest_weight

    found: dict[str, list[str]] = {}
    for name, child in module.named_modules():
        weight = getattr(child, "weight", None)
        if weight is not None and str(getattr(weight, "dtype", "")) == "torch.float32":
            array = weight.detach().numpy()
            for digest in {digest_weight(array.transpose(axes).copy()) for axes in LAYOUTS.get(array.ndim, ())}:
                found.setdefault(digest, []).append(name)
    return found


def _to_tflite(graph: torch.nn.Module, feeds: Any, target: Path) -> None:
    import litert_torch
    import torch

    from edgeft.exporter import Unsupported

    from .process import explain

    try:
        with torch.no_grad():
            litert_torch.convert(graph, feeds).export(str(target))
    except Exception as error:  # jax, MLIR and torch each raise their own kinds
        reason, op = explain(str(error) or type(error).__name__)
        raise Unsupported(reason, op=op) from error


def quantise(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """8-bit model.tflite of a float one, as options say. Raises Unsupported."""
    from . import quantise as quantising

    options = quantising.Int8.model_validate(request["options"])
    feeds = folder / "feeds.npz"
    return quantising.quantise_file(
        Path(request["source"]), folder, options, request["keep_float"], feeds if feeds.is_file() else None
    )


def main(folder: Path) -> int:
    """Do the request; answer.json says what came of it."""
    from edgeft.errors import EdgeftError
    from edgeft.exporter import Unsupported

    sys.stdout.flush()
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    try:
        answer = {"done": {"convert": convert, "quantise": quantise}[request["kind"]](request, folder)}
    except Unsupported as error:
        answer = {"unsupported": {"reason": error.reason, "op": error.op}}
    except EdgeftError as error:
        answer = {"failed": {"what": error.what, "where": error.where, "hint": error.hint}}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
