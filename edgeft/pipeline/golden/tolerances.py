"""How far another run of an artefact may be from its golden outputs, by its arithmetic and by the processor."""

from __future__ import annotations

from typing import Any

from edgeft.exporter import Variant

SAME = (1e-5, "same processor flags and runtime version: the same kernels, sums in another order at most")
FLOAT32 = (1e-3, "float32 on other kernels: rounding of 6e-8 per operation, grown by depth")
HALF = (2e-2, "16-bit floats on other kernels: rounding of 1e-3 (float16) to 8e-3 (bfloat16) per operation")
QUANTISED = (
    0.1,
    "8-bit or less: another instruction set rounds and saturates otherwise (0.057 measured between AVX-512 VNNI and "
    "Cortex-A76)",
)
LEAST = 1e-6


def tolerance(variant: Variant | None, outputs: Any) -> dict[str, dict[str, Any]]:
    """Largest absolute difference allowed: a share of the largest golden output. variant: None for the float artefact.

    The same processor is allowed next to nothing: what only another one excuses must not pass there.
    """
    import numpy as np

    whole = float(np.abs(np.asarray(outputs, dtype=np.float64)).max(initial=0.0))

    def allowed(share: float, why: str) -> dict[str, Any]:
        return {"atol": float(f"{max(LEAST, share * whole):.3g}"), "why": f"{share:g} of the largest output; {why}"}

    return {"same_processor": allowed(*SAME), "other_processor": allowed(*_elsewhere(variant))}


def _elsewhere(variant: Variant | None) -> tuple[float, str]:
    if variant is None:
        return FLOAT32
    return HALF if any(word in variant.name for word in ("fp16", "float16", "bf16", "f16")) else QUANTISED
