"""4-bit NormalFloat weights with double quantisation (Dettmers et al. 2023, arXiv 2305.14314) by bitsandbytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeft.errors import StepError

if TYPE_CHECKING:
    import torch


def quantise_nf4(
    module: torch.nn.Module,
    names: Sequence[str],
    *,
    compute_dtype: torch.dtype,
    double_quant: bool = True,
    device: str | torch.device = "cpu",
) -> None:
    """Replace the named linear layers of `module` by frozen NF4 ones, in place, one at a time (peak memory: one layer).

    compute_dtype: dtype of the matrix products; activations between layers keep theirs.
    """
    import torch

    if not names:
        raise StepError(
            "there is no linear layer to quantise below the head of this model",
            hint="use method: lora or full, which keep the weights as they are",
        )
    for name in names:
        old = module.get_submodule(name)
        if not isinstance(old, torch.nn.Linear):
            raise TypeError(f"{name} is {type(old).__name__}, not Linear")
        new = _nf4_layer(old, compute_dtype, double_quant)
        module.set_submodule(name, new.to(device))
    # peft chooses its bitsandbytes layers by this flag, as transformers' own 4-bit loading sets it.
    module.is_loaded_in_4bit = True
    keep_weights_unpacked(module)


def _nf4_layer(old: torch.nn.Linear, compute_dtype: torch.dtype, double_quant: bool) -> torch.nn.Module:
    """A 4-bit layer with `old`'s weights, quantised when it moves to its device."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    new = Linear4bit(
        old.in_features,
        old.out_features,
        bias=old.bias is not None,
        compute_dtype=compute_dtype,
        compress_statistics=double_quant,
        quant_type="nf4",
        device="meta",
    )
    weight = old.weight.data.contiguous().to(torch.float32)
    new.weight = Params4bit(weight, requires_grad=False, compress_statistics=double_quant, quant_type="nf4", module=new)
    if old.bias is not None:
        new.bias = torch.nn.Parameter(old.bias.data, requires_grad=False)
    return new


def keep_weights_unpacked(module: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights in place on CPUs with AVX512-BF16.

    On such a CPU a forward pass in eval mode rewrites weight and quant state into an inference layout, for good.
    `dequantize_4bit` then reads that layout as the ordinary one: a later merge is wrong, and training that goes on
    after an evaluation reads wrong weights, so a run that evaluates and a run resumed after that evaluation part ways.
    The flag is per layer; without it the layer takes the ordinary path. Every 4-bit model goes through here.
    """
    from bitsandbytes.nn import Linear4bit

    for child in module.modules():
        if isinstance(child, Linear4bit):
            child.support_avx512bf16_for_cpu = False


def set_compute_dtype(module: torch.nn.Module, dtype: torch.dtype) -> None:
    """Change the dtype of the 4-bit layers' matrix products.

    Going down is for good: a layer rounds its bias to the compute dtype at its first forward pass.
    """
    from bitsandbytes.nn import Linear4bit

    for child in module.modules():
        if isinstance(child, Linear4bit):
            child.compute_dtype = dtype


def round_trip_nf4(weight: torch.Tensor, *, double_quant: bool = True) -> torch.Tensor:
    """The float weight that a 4-bit layer made of `weight` really computes with, same shape, float32."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), compress_statistics=double_quant, quant_type="nf4")
    restored: torch.Tensor = dequantize_4bit(packed, state)
    return restored.reshape(weight.shape).to(torch.float32)


def fast_compute_dtype(device: str) -> str:
    """`bfloat16` where the hardware multiplies in it, else `float32`: the meaning of compute_dtype: auto."""
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    cpu = torch.backends.cpu.get_cpu_capability()
    native = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return "bfloat16" if native and cpu.startswith("AVX512") else "float32"
