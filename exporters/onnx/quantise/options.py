"""Options of the ONNX exporter's compressed variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.exporter import Unsupported

Method = Literal["minmax", "average", "percentile-99.9", "percentile-99.99", "entropy", "mse"]
Operators = Literal["auto", "linear", "conv", "all"]


class Compression(BaseModel):
    """What is quantised, into what, and by which method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["dynamic", "static", "weights", "nncf", "qnn"] = Field(
        description="dynamic: activation scales from each input. static: from calibration (QDQ). weights: those alone "
        "(MatMulNBits). nncf: static by NNCF. qnn: static as Qualcomm's QNN takes it.",
    )
    reduce_range: bool = Field(False, description="7-bit weights: x86 without VNNI saturates u8 x s8 pair sums.")
    head: Literal["float", "int8"] = Field(
        "float", description="The last layer with weights; that of a language model counts as any other."
    )
    embeddings: Literal["float", "int8-rows"] = Field("int8-rows", description="Large embedding tables.")
    ranges: Method = Field("average", description="Static only: how ranges follow from the statistics.")
    operators: Operators = Field(
        "auto",
        description="Static only. linear: MatMul and Gemm, float between them. conv: convolutions too, 8 bits between "
        "them. all: also transposed convolutions and element-wise operators. auto: conv where a quarter of the layers "
        "are convolutions, else linear.",
    )
    activation_bits: Literal[8, 16] = Field(8, description="Static only. 16 bits are precise; few have kernels.")
    equalise: bool = Field(False, description="Static only: cross-layer equalisation before quantising.")
    part: Literal["both", "weights", "activations"] = Field(
        "both",
        description="Static only, to tell errors apart: the other part has 16 bits, which costs accuracy nothing, and "
        "time: such a form is not to be shipped.",
    )
    bits: Literal[4, 8] = Field(8, description="Weights only.")
    block: Literal[16, 32, 64, 128] = Field(32, description="Weights only: how many share a scale.")
    algorithm: Literal["rtn", "hqq", "awq", "gptq"] = Field(
        "rtn",
        description="Weights only. rtn: rounding. hqq: scales fitted to the weights. Of 4 bits, and from calibration "
        "cases: awq: large inputs scaled down. gptq: each weight's error made up for by the next ones.",
    )
    smooth: bool = Field(True, description="NNCF only: SmoothQuant, where products of activations show a transformer.")
    bias_correction: Literal["none", "fast", "accurate"] = Field("fast", description="NNCF only.")


_STATIC = ("ranges", "operators", "activation_bits", "equalise", "part")
_OF_MODE = {
    "dynamic": (),
    "static": _STATIC,
    "weights": ("bits", "block", "algorithm"),
    "nncf": ("operators", "smooth", "bias_correction"),
    "qnn": ("activation_bits",),
}
"""Options that mean something in a mode, besides those of all."""
CALIBRATED = ("awq", "gptq")
"""Algorithms of weights alone that look at what the layers read."""


def read_options(options: Mapping[str, Any]) -> Compression:
    """Unsupported, with the option's name, where one is unknown, out of range, or of another mode."""
    try:
        read = Compression.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        raise Unsupported(f"option {first['loc'][0] if first['loc'] else '?'}: {first['msg']}") from error
    own = {name for names in _OF_MODE.values() for name in names}
    stray = sorted(read.model_fields_set & own - set(_OF_MODE[read.mode]))
    if stray:
        raise Unsupported(f"option {stray[0]} means nothing with mode {read.mode}")
    if read.algorithm in CALIBRATED and read.bits != 4:
        raise Unsupported(f"option algorithm: {read.algorithm} is for bits: 4; 8 bits lose next to nothing by rounding")
    return read
