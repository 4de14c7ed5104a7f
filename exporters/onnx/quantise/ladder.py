"""Which compressed variants of an ONNX graph are worth trying, and what may repair one that falls short."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Variant

from .options import CALIBRATED

if TYPE_CHECKING:
    from edgeft.device.profile import Device

FAST_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
CPU, QNN = "CPUExecutionProvider", "QNNExecutionProvider"


def saturates(device: Device) -> bool:
    """True for x86 without VNNI or AMX, where u8 x s8 sums clip at 16 bits; not known (another x86 machine): True."""
    from edgeft.device.conditions import cpu_flags

    here = device.architecture == "host"
    machine = platform.machine().lower() if here else device.architecture
    flags = device.cpu_flags or (cpu_flags() if here else ())
    return machine in ("x86_64", "amd64", "i686") and not FAST_INT8.intersection(flags)


def accelerated(device: Device) -> bool:
    """Whether ONNX Runtime has more than its CPU kernels there."""
    return any(provider != CPU for provider in device.providers)


def default_ladder(device: Device) -> tuple[Variant, ...]:
    """What a recipe without `candidates` and without a search tries."""
    narrow = saturates(device)
    return (
        Variant("int8-dynamic", {"mode": "dynamic", "reduce_range": narrow}),
        static("int8-static", {"reduce_range": narrow}),
    )


def static(name: str, options: Mapping[str, Any]) -> Variant:
    """A variant of fixed ranges, which come from the calibration statistics."""
    return Variant(name, {"mode": "static", **options}, needs_calibration=True, needs_statistics=True)


def all_rungs(device: Device, convolutional: bool) -> tuple[Variant, ...]:
    """What a search may try, cheapest to make first. convolutional: static forms keep 8 bits between the layers.

    Static forms differ in how ranges follow from one set of statistics, so each costs a rewrite of the graph only.
    Percentiles and entropy are for convolutions: encoders carry meaning in few large values (a MiniLM agreed with float
    on 97% of texts with average ranges, 98% with mse, 86% with 99.99% percentiles, 88% with entropy).
    """
    narrow = {"reduce_range": saturates(device)}
    found = [] if convolutional else [Variant("int8-dynamic", {"mode": "dynamic", **narrow})]
    found.append(static("int8-static", narrow))
    methods = (
        ("mse", "minmax", "percentile-99.99", "percentile-99.9", "entropy") if convolutional else ("mse", "minmax")
    )
    for method in methods:
        found.append(static(f"int8-static-{method.replace('percentile-', 'p')}", {**narrow, "ranges": method}))
    if convolutional:
        found.append(static("int8-static-equalised", {**narrow, "equalise": True}))
        found.append(static("int8-static-all", {**narrow, "operators": "all"}))
    else:
        found.append(Variant("int8-weights", {"mode": "weights", "bits": 8}))
        found.append(Variant("int4-weights", {"mode": "weights", "bits": 4}))
        found.extend(_fitted(algorithm) for algorithm in CALIBRATED)
        hqq = {"mode": "weights", "bits": 4, "algorithm": "hqq"}
        found.append(Variant("int4-weights-hqq", hqq, for_size=not accelerated(device)))
    found.append(Variant("int8-nncf", {"mode": "nncf", **narrow}, needs_calibration=True))
    if QNN in device.providers:
        found.append(qnn_variant())
    return tuple(found)


def _fitted(algorithm: str) -> Variant:
    """4-bit weights by an algorithm that looks at what the layers read; rounding's format, size and kernels."""
    options = {"mode": "weights", "bits": 4, "algorithm": algorithm}
    return Variant(f"int4-weights-{algorithm}", options, needs_calibration=True)


def qnn_variant() -> Variant:
    """16-bit activations and 8-bit weights as Qualcomm's accelerator takes them."""
    options = {"mode": "qnn", "activation_bits": 16, "embeddings": "float", "head": "int8"}
    return Variant("a16w8-qnn", options, needs_calibration=True)


def repairs_of(variant: Variant, device: Device) -> tuple[Variant, ...]:
    """Forms of `variant` with one property more that helps accuracy, cheapest first; empty where it has them all.

    16-bit activations only where an accelerator computes in them: ONNX Runtime's CPU has no such kernels, and took 2.6
    times as long for them as for float on a MiniLM. HQQ took 2.4 times as long: without an accelerator it is for size.
    AWQ and GPTQ cost minutes to make, and nothing on the device.
    """
    options: dict[str, Any] = dict(variant.options)
    found: list[Variant] = []

    def add(suffix: str, **change: Any) -> None:
        found.append(replace(variant, name=f"{variant.name}-{suffix}", options={**options, **change}))

    mode = options.get("mode")
    if mode == "static":
        for method, suffix in (("mse", "mse"), ("percentile-99.99", "p99.99")):
            if options.get("ranges", "average") != method:
                add(suffix, ranges=method)
        if not options.get("equalise"):
            add("equalised", equalise=True)
        keep: dict[str, Any] = {key: options[key] for key in ("reduce_range", "head", "embeddings") if key in options}
        corrected = {"mode": "nncf", "bias_correction": "fast", **keep}
        found.append(replace(variant, name=f"{variant.name}-bias-corrected", options=corrected, needs_statistics=False))
        if options.get("activation_bits", 8) == 8 and QNN in device.providers:
            add("a16", activation_bits=16)
    if mode == "nncf" and options.get("bias_correction", "fast") == "fast":
        add("accurate", bias_correction="accurate")
    if mode == "weights":
        if options.get("bits") == 4 and options.get("algorithm", "rtn") == "rtn":
            for algorithm in CALIBRATED:
                add(algorithm, algorithm=algorithm)
                found[-1] = replace(found[-1], needs_calibration=True)
            add("hqq", algorithm="hqq")
            found[-1] = replace(found[-1], for_size=not accelerated(device))
        if options.get("block", 32) > 16:
            add("block16", block=16)
        if options.get("bits") == 4:
            add("8bit", bits=8, algorithm="rtn")
            found[-1] = replace(found[-1], needs_calibration=False)
    return tuple(found)
