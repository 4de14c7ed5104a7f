"""A model as one torch.export program of a fixed shape, for exporters that lower torch programs themselves."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, TensorSpec
from edgeft.exporter import Unsupported
from edgeft.models.layers import predicts_tokens

from .onnx.torch_export import (
    example_feeds,
    feed_specs,
    first_line,
    hidden_scores,
    ramp,
    traceable,
    use_eager_attention,
    wants_additive_mask,
)

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context
    from edgeft.task import Arrays

OPERATOR = re.compile(r"(?:torch\.ops\.|torch\._ops\.|\b)((?:aten|torchvision|quantized_decomposed)(?:::|\.)\w+)")
"""An operator's name inside a message of torch.export, ExecuTorch or coremltools."""


@dataclass(frozen=True)
class Source:
    """A torch model ready to capture. specs: its feeds in the program's order, every size filled in."""

    module: torch.nn.Module
    specs: tuple[TensorSpec, ...]
    additive_mask: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the feeds, in order."""
        return tuple(spec.name for spec in self.specs)

    @property
    def batch(self) -> int:
        """Cases of one call."""
        return int(self.specs[0].shape[0])

    def shape(self, name: str) -> tuple[int, ...]:
        """A feed's shape."""
        return next(tuple(int(size) for size in spec.shape) for spec in self.specs if spec.name == name)

    def served(self, fill: float | None = None) -> torch.nn.Module:
        """Positional feeds in, logits out. fill: added to the scores of padding; default the lowest float32.

        A lowest float32 is infinite in float16, and what is not padding would be 0 x inf: such formats give a fill.
        """
        import torch

        whole = traceable(self.module, self.names, additive_mask=self.additive_mask and fill is None)
        if fill is None or not self.additive_mask:
            return whole
        place, added, causal = self.names.index("attention_mask"), float(fill), predicts_tokens(self.module)

        class Filled(torch.nn.Module):  # type: ignore[misc,unused-ignore]
            def __init__(self) -> None:
                super().__init__()
                self.model = whole

            def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
                given = list(tensors)
                given[place] = hidden_scores(given[place], added, causal=causal)
                return self.model(*given)

        return Filled().eval()

    def example(self) -> tuple[torch.Tensor, ...]:
        """Valid inputs of the fixed shapes: ids counting up from 1, the second half of the last row padded; ramps."""
        return tuple(_example(self.module, spec) for spec in self.specs)


def _example(module: torch.nn.Module, spec: TensorSpec) -> torch.Tensor:
    import torch

    shape = tuple(int(size) for size in spec.shape)
    if spec.name == "input_ids":
        vocabulary = int(getattr(getattr(module, "config", None), "vocab_size", 0) or 3)
        return torch.arange(shape[0] * shape[1]).reshape(shape) % max(1, vocabulary - 1) + 1
    if spec.name == "attention_mask":
        mask = torch.ones(shape, dtype=torch.int64)
        mask[-1, (shape[1] + 1) // 2 :] = 0
        return mask
    return torch.zeros(shape, dtype=torch.int64) if spec.dtype == "int64" else ramp(spec, {})


def fixed_specs(specs: Sequence[TensorSpec], settings: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Declared feeds with batch and length filled in."""
    return tuple(
        TensorSpec(spec.name, spec.dtype, tuple(s if isinstance(s, int) else int(settings[s]) for s in spec.shape))
        for spec in specs
    )


def load_source(model: Artifact, settings: Mapping[str, Any], ctx: Context, what: str) -> Source:
    """The model with eager attention, which lowers to fewer operators than the fused one. Raises Unsupported.

    settings: {batch, length}. what: the format's name, for the sentence when the model is not a torch one.
    """
    from edgeft.models.load import load_model

    if model.kind != "torch-model":
        raise Unsupported(f"{what} is made from a torch model, this one is {model.kind}")
    from edgeft.models.served import served

    module = served(load_model(model, labels=ctx.labels, task=ctx.task.name, seed=ctx.seed), ctx.prepared)
    specs = feed_specs(module, ctx.prepared)
    with quiet_tools():
        use_eager_attention(module)
        additive = wants_additive_mask(module, example_feeds(module, specs))
    return Source(module, fixed_specs(specs, settings), additive)


def capture(source: Source, fill: float | None = None) -> torch.export.ExportedProgram:
    """The torch.export program of a fixed shape; fill: see `Source.served`. Raises Unsupported with torch's reason."""
    import torch

    with quiet_tools(), torch.no_grad():
        try:
            return torch.export.export(source.served(fill), source.example(), strict=False)
        except Exception as error:  # torch.export raises a dozen unrelated types
            reason, op = explain(error)
            raise Unsupported(f"torch.export cannot capture this model: {reason}", op=op) from error


def batches(source: Source, feeds: Arrays) -> Iterator[tuple[torch.Tensor, ...]]:
    """Canonical feeds as the program's inputs, a batch at a time; the last one repeats its last case.

    Unsupported where a feed is missing or has another length.
    """
    import numpy as np
    import torch

    missing = sorted(set(source.names) - set(feeds))
    if missing:
        raise Unsupported(f"the calibration cases have no '{missing[0]}'")
    n = len(feeds[source.names[0]])
    for name in source.names:
        if feeds[name].shape != (n, *source.shape(name)[1:]):
            raise Unsupported(f"'{name}' is {list(feeds[name].shape)}, the program takes {list(source.shape(name))}")
    for start in range(0, n, source.batch):
        rows = np.minimum(np.arange(start, start + source.batch), n - 1)
        yield tuple(
            torch.from_numpy(np.ascontiguousarray(feeds[spec.name][rows]).astype(spec.dtype)) for spec in source.specs
        )


def linear_names(program: torch.export.ExportedProgram, targets: Sequence[Any]) -> dict[Any, str]:
    """Graph node -> name of the module it came from, for calls of `targets`, in graph order."""
    return {node: module_of(node) for node in program.graph.nodes if node.target in targets}


def module_of(node: Any) -> str:
    """Name, in the source's module, of the innermost module that a graph node came from; empty for the top."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return re.sub(r"^(L\['self'\]\.)?model\.?", "", str(stack[-1][0])) if stack else ""


def explain(error: BaseException) -> tuple[str, str]:
    """(first line, operator's name or empty), from the innermost cause that names one."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 12:
        chain.append(cause)
    for item in reversed(chain):
        if found := OPERATOR.search(str(item)):
            return first_line(item), found[1].replace("::", ".")
    return first_line(error), ""


@contextmanager
def quiet_tools() -> Iterator[None]:
    """No log lines and warnings of torch.export, torchao, ExecuTorch and coremltools: nothing a user could act on.

    What fails in them raises and is told as an Unsupported. torchao logs at import that its CUDA kernels do not load.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
