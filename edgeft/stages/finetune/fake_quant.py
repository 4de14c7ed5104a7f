"""Layers that compute as their quantised form will, while they train; imported only when a run begins.

Layers and activation ranges are torchao's. Written here is what it has not: convolutions, one range per case, low-rank
updates below the quantiser, and weights rounded as runtimes round them: torchao divides by 127.5, which clips the
largest positive weight of each channel and so gives it no gradient; ONNX Runtime and LiteRT divide by 127.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torchao.quantization.pt2e.fake_quantize import FusedMovingAvgObsFakeQuantize, disable_observer, enable_observer
from torchao.quantization.pt2e.observer import MovingAverageMinMaxObserver
from torchao.quantization.qat import FakeQuantizedLinear, IntxFakeQuantizeConfig
from torchao.quantization.qat.fake_quantizer import IntxFakeQuantizer

from edgeft.models.layers import below_heads, head_modules, predicts_tokens, unwrap

Ranges = Literal["case", "token", "static", "float"]
SMALLEST_SCALE = 1e-12
"""Of a channel whose weights are all zero."""
CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d)


@dataclass(frozen=True)
class Rounding:
    """What is rounded how. weight_bits: symmetric, one scale per output channel, or per group_size weights of it."""

    activations: Ranges
    weight_bits: int = 8
    group_size: int | None = None


class CaseRange(torch.nn.Module):  # type: ignore[misc]
    """8-bit activations, asymmetric, the range of each case of the batch: DynamicQuantizeLinear at batch 1."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (n, ...), same shape."""
        rounded: torch.Tensor = self.rows(x.reshape(len(x), -1)).reshape(x.shape)
        return rounded


class StaticRange(torch.nn.Module):  # type: ignore[misc]
    """8-bit activations, asymmetric, one range for all: a moving average over training batches, still in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.quantiser = FusedMovingAvgObsFakeQuantize(
            MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.uint8, qscheme=torch.per_tensor_affine
        )

    def train(self, mode: bool = True) -> StaticRange:
        """Ranges are learnt from training rows alone."""
        (enable_observer if mode else disable_observer)(self.quantiser)
        super().train(mode)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of any shape, same shape."""
        rounded: torch.Tensor = self.quantiser(x)
        return rounded


class WeightRange(torch.nn.Module):  # type: ignore[misc]
    """Symmetric weights of `bits` bits, one scale per output channel or per `group` weights of it; never clipped."""

    def __init__(self, bits: int, group: int | None) -> None:
        super().__init__()
        self.most, self.group = 2 ** (bits - 1) - 1, group

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """weight: (out, ...), same shape."""
        rows = weight.reshape(-1, self.group) if self.group else weight.flatten(1)
        scale = (rows.detach().abs().amax(dim=1) / self.most).clamp(min=SMALLEST_SCALE).float()
        zero = torch.zeros_like(scale, dtype=torch.int32)
        rounded = torch.fake_quantize_per_channel_affine(rows.float(), scale, zero, 0, -self.most, self.most)
        result: torch.Tensor = rounded.to(weight.dtype).reshape(weight.shape)
        return result


class FakeQuantizedConv(torch.nn.Module):  # type: ignore[misc]
    """A convolution with rounded activations and a rounded kernel, one weight scale per output channel.

    Normalisation that an exporter folds into the kernel scales whole output channels, which such rounding commutes
    with, so it need not be folded here.
    """

    def __init__(self, conv: Any, activations: torch.nn.Module | None, weights: torch.nn.Module) -> None:
        super().__init__()
        self.conv, self.activations, self.weights = conv, activations, weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the convolution's own."""
        rounded = self.weights(self.conv.weight)
        made: torch.Tensor = self.conv._conv_forward(
            self.activations(x) if self.activations else x, rounded, self.conv.bias
        )
        return made


class LowRank(torch.nn.Module):  # type: ignore[misc]
    """The weight plus a low-rank update, below the quantiser: what is rounded is the sum. Hu et al. 2021."""

    def __init__(self, weight: torch.Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        out, into = weight.shape[0], weight[0].numel()
        self.down, self.up = torch.nn.Parameter(torch.empty(rank, into)), torch.nn.Parameter(torch.zeros(out, rank))
        torch.nn.init.kaiming_uniform_(self.down, a=5**0.5)
        self.scale = alpha / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """weight + scale x up x down."""
        return weight + self.scale * (self.up @ self.down).reshape(weight.shape)


def activation_quantiser(ranges: Ranges) -> torch.nn.Module | None:
    """The rounding of a layer's input; None leaves it in float."""
    if ranges == "token":
        rows: torch.nn.Module = IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False))
        return rows
    return {"case": CaseRange, "static": StaticRange}[ranges]() if ranges != "float" else None


def layers_to_round(module: torch.nn.Module) -> tuple[str, ...]:
    """Linear layers and convolutions, without the last linear layer where there are others: exporters keep it in float.
    A language model's head is left out, too: its weights are often the embedding's, and that trains in float.

    Layers of one input per output (depthwise kernels of one value, linear layers of one feature) have nothing to round.
    """
    named = [(name, child) for name, child in module.named_modules() if name]
    linears = [name for name, child in named if type(child) is torch.nn.Linear and child.in_features > 1]
    convs = [name for name, child in named if type(child) in CONVOLUTIONS and child.weight[0].numel() > 1]
    if predicts_tokens(module):
        body = below_heads(linears, head_modules(module))
    else:
        body = tuple(linears[:-1] if len(linears) + len(convs) > 1 else linears)
    chosen = {*body, *convs}
    return tuple(name for name, _ in named if name in chosen)


def insert(module: torch.nn.Module, names: tuple[str, ...], rounding: Rounding, lora: tuple[int, float] | None) -> None:
    """Put fake-quantised layers in the place of the named ones, which keep their parameters. In place.

    lora: (rank, alpha) of low-rank updates that train instead of the weights.
    """
    whole: Any = unwrap(module)
    for name in names:
        layer = whole.get_submodule(name)
        place = layer.weight.device
        rounded = _rounded(layer, rounding)
        if lora is not None:
            owner = rounded.conv if isinstance(rounded, FakeQuantizedConv) else rounded
            torch.nn.utils.parametrize.register_parametrization(owner, "weight", LowRank(layer.weight, *lora))
            owner.parametrizations.weight.original.requires_grad_(False)
        whole.set_submodule(name, rounded.to(place))


def rounded_layers(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of the layers that are fake-quantised."""
    kinds = (FakeQuantizedLinear, FakeQuantizedConv)
    return tuple(name for name, child in unwrap(module).named_modules() if isinstance(child, kinds))


def remove(module: torch.nn.Module) -> None:
    """Put the plain layers back, with the weights that were learnt and low-rank updates added. In place."""
    whole: Any = unwrap(module)
    for name, child in list(whole.named_modules()):
        if isinstance(child, FakeQuantizedLinear | FakeQuantizedConv):
            owner = child.conv if isinstance(child, FakeQuantizedConv) else child
            if torch.nn.utils.parametrize.is_parametrized(owner, "weight"):
                torch.nn.utils.parametrize.remove_parametrizations(owner, "weight", leave_parametrized=True)
            whole.set_submodule(name, owner if isinstance(child, FakeQuantizedConv) else child.to_linear())


def _rounded(layer: Any, rounding: Rounding) -> Any:
    """The fake-quantised form of a layer, around the layer's own parameters."""
    weights = WeightRange(rounding.weight_bits, rounding.group_size)
    activations = activation_quantiser(rounding.activations)
    if not isinstance(layer, torch.nn.Linear):
        return FakeQuantizedConv(layer, activations, weights)
    linear = FakeQuantizedLinear.from_linear(layer)
    linear.activation_fake_quantizer, linear.weight_fake_quantizer = activations, weights
    return linear
