"""A torch module as an ONNX graph: torch.onnx (dynamo) with dynamic batch and length, and a mask that converts well."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import TensorSpec
from edgeft.exporter import Unsupported
from edgeft.task import declared_inputs

if TYPE_CHECKING:
    import onnx
    import torch

EXAMPLE_BATCH, EXAMPLE_LENGTH = 3, 12
"""Shape of the example the graph is traced with: unequal and above 1, so that neither is taken for a constant."""
LOWEST_OPSET, HIGHEST_OPSET = 18, 23
"""What the dynamo exporter writes itself; below, the result is converted down."""
SAME_MASK, LEAST_LOGIT = 1e-5, 1e-3
"""Logits of one float32 model under two spellings of one mask differ by rounding alone, relative to the largest logit
(about 1e-6; a mask that is not understood changes them by 1e-2 and more). Logits below 1e-3 count as 1e-3."""


def feed_names(module: torch.nn.Module, prepared: Path | None) -> tuple[str, ...]:
    """Canonical feeds the graph takes: what preprocessing makes and the model's forward accepts, in that order."""
    return tuple(spec.name for spec in feed_specs(module, prepared))


def feed_specs(module: torch.nn.Module, prepared: Path | None) -> tuple[TensorSpec, ...]:
    """The feeds that preprocessing declares and the module takes. Unsupported where there are none."""
    from edgeft.models.predict import chosen_feeds

    made = declared_inputs(prepared)
    names = chosen_feeds(module, [spec.name for spec in made])
    if not names:
        raise Unsupported(f"the model's forward takes none of {', '.join(spec.name for spec in made)}")
    return tuple(spec for spec in made if spec.name in names)


def example_feeds(module: torch.nn.Module, specs: Sequence[TensorSpec | str]) -> dict[str, torch.Tensor]:
    """One valid input per feed. A text's: int64 (3, 12), the last rows padded, token ids by optimum's text generator.
    An image's: a ramp, of its own size and a batch of 3. specs: as declared; a bare name is a text's."""
    import torch
    from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

    config = getattr(module, "config", None)
    texts = [spec if isinstance(spec, str) else spec.name for spec in specs if is_text(spec)]
    feeds = {name: torch.zeros(EXAMPLE_BATCH, EXAMPLE_LENGTH, dtype=torch.int64) for name in texts}
    for spec in specs:
        if isinstance(spec, TensorSpec) and not is_text(spec):
            feeds[spec.name] = ramp(spec, {"batch": EXAMPLE_BATCH})
    if "input_ids" in feeds and config is not None and hasattr(config, "vocab_size"):
        maker = DummyTextInputGenerator(
            "text-classification", NormalizedTextConfig(config), EXAMPLE_BATCH, sequence_length=EXAMPLE_LENGTH
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            feeds["input_ids"] = maker.generate("input_ids", framework="pt")
    if "attention_mask" in feeds:
        lengths = torch.tensor([EXAMPLE_LENGTH, EXAMPLE_LENGTH - 5, 2])
        feeds["attention_mask"] = (torch.arange(EXAMPLE_LENGTH)[None, :] < lengths[:, None]).to(torch.int64)
    return feeds


def is_text(spec: TensorSpec | str) -> bool:
    """Whether a declared feed has a length."""
    return isinstance(spec, str) or "length" in spec.shape


def ramp(spec: TensorSpec, sizes: Mapping[str, int]) -> torch.Tensor:
    """A valid value of a feed without a length: 0..255 counted up for uint8, -1..1 for floats."""
    import torch

    shape = [size if isinstance(size, int) else sizes[size] for size in spec.shape]
    count = 1
    for size in shape:
        count *= size
    if spec.dtype == "uint8":
        return (torch.arange(count) * 7 % 256).to(torch.uint8).reshape(shape)
    return torch.linspace(-1, 1, count).reshape(shape).to(getattr(torch, spec.dtype))


def traceable(module: torch.nn.Module, names: Sequence[str], *, additive_mask: bool) -> torch.nn.Module:
    """Positional feeds in, logits out. additive_mask: the mask goes in as `hidden_scores` gives it.

    That spelling replaces the gather and broadcast of boolean masks that transformers traces to (a dozen operators, and
    IsNaN in the attention) by one multiplication.
    """
    import torch

    from edgeft.models.layers import predicts_tokens
    from edgeft.models.predict import forward_logits

    class Served(torch.nn.Module):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            feeds = dict(zip(names, tensors, strict=True))
            if additive_mask:
                lowest = torch.finfo(torch.float32).min
                feeds["attention_mask"] = hidden_scores(feeds["attention_mask"], lowest, causal=causal)
            return forward_logits(self.model, feeds)

    causal = predicts_tokens(module)
    return Served().eval()


def hidden_scores(mask: torch.Tensor, lowest: float, *, causal: bool) -> torch.Tensor:
    """What is added to attention scores: `lowest` at padding, else 0; float32 (batch, 1, 1, length), of a language
    model (batch, 1, length, length), where what comes after a token is hidden from it, too. mask: (batch, length)."""
    import torch

    kept = mask[:, None, None, :].to(torch.float32)
    if causal:
        place = torch.arange(mask.shape[1])
        kept = kept * (place[None, :] <= place[:, None]).to(torch.float32)
    return (1.0 - kept) * lowest


def wants_additive_mask(module: torch.nn.Module, feeds: Mapping[str, torch.Tensor]) -> bool:
    """True where the additive mask gives the same logits on a padded batch: bidirectional encoders and most language
    models, not all others. One that looks back over a window alone would not tell itself by a short example."""
    import torch

    from edgeft.models.layers import is_transformers, predicts_tokens

    if "attention_mask" not in feeds or not is_transformers(module):
        return False
    config: Any = module.config
    slides = getattr(config, "sliding_window", None) or "sliding_attention" in (
        getattr(config, "layer_types", None) or ()
    )
    if slides and predicts_tokens(module):
        return False
    with torch.inference_mode():
        plain = traceable(module, tuple(feeds), additive_mask=False)(*feeds.values())
        try:
            other = traceable(module, tuple(feeds), additive_mask=True)(*feeds.values())
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            return False
    same = plain.shape == other.shape and bool(torch.isfinite(other).all())
    return same and float((plain - other).abs().max()) <= SAME_MASK * max(LEAST_LOGIT, float(plain.abs().max()))


def trace(
    module: torch.nn.Module, specs: Sequence[TensorSpec | str], opset: int
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The ONNX model (the declared inputs, output logits, dynamic batch and sequence) and how it was traced.

    Raises Unsupported with the operator's name when torch cannot express the model in ONNX.
    """
    import torch

    use_eager_attention(module)
    feeds = example_feeds(module, specs)
    names = tuple(feeds)
    additive = wants_additive_mask(module, feeds)
    axes = {"batch": torch.export.Dim("batch"), "length": torch.export.Dim("sequence")}
    shapes = {spec.name: spec.shape for spec in specs if isinstance(spec, TensorSpec)}
    dims = tuple(
        {axis: axes[size] for axis, size in enumerate(shapes.get(name, ("batch", "length"))) if size in axes}
        for name in names
    )
    try:
        with quiet_export(), torch.no_grad():
            program = torch.onnx.export(
                traceable(module, names, additive_mask=additive),
                tuple(feeds.values()),
                dynamo=True,
                dynamic_shapes={"tensors": dims},
                opset_version=min(max(opset, LOWEST_OPSET), HIGHEST_OPSET),
                input_names=list(names),
                output_names=["logits"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason, op = explain(error)
        raise Unsupported(reason, op=op) from error
    if program is None:
        raise Unsupported("torch.onnx.export returned no program")
    return program.model_proto, {"additive_mask": additive, "example": list(next(iter(feeds.values())).shape)}


def use_eager_attention(module: torch.nn.Module) -> None:
    """Plain attention in the model, also below a serving wrapper: it traces to fewer operators than the fused one."""
    for child in module.modules():
        if hasattr(child, "set_attn_implementation"):
            with quiet_export():
                child.set_attn_implementation("eager")
            return


def explain(error: BaseException) -> tuple[str, str]:
    """(reason, operator name or empty) of an exporter failure, from the innermost cause that names one."""
    import re

    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 12:
        chain.append(cause)
    for item in reversed(chain):
        found = re.search(
            r"(?:No ONNX function found for|target:?|operator)\W+<?(?:OpOverload\W+op=')?([\w:]+\.?[\w.]*)", str(item)
        )
        if found:
            return f"torch.onnx has no translation for it: {first_line(item)}", found[1].rstrip(".")
    return f"torch.onnx cannot export this model: {first_line(chain[-1])}", ""


def first_line(error: BaseException) -> str:
    """First non-empty line of a message, cut at 300 characters."""
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet_export() -> Iterator[None]:
    """torch.onnx warns of its own internals (tree specs, absent torchvision); nothing a user could act on."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
