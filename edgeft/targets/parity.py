"""The float artefact against the model it was made from, on real inputs of several shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, Signature
from edgeft.device.profile import Device
from edgeft.errors import StepError
from edgeft.record import ParityRow
from edgeft.targets.measure import run_outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest absolute difference of logits, times max(1, largest logit), by the artefact's dtype.

float32: 24-bit rounding through a dozen layers leaves about 1e-6 (7e-7 measured on a MiniLM over 60 cases), 1e-5 with
other kernels on large logits; a wrong weight, mask or layer norm epsilon moves logits by 1e-3 and more. float16 and
bfloat16 have 11 and 8 bits: 2^13 and 2^16 times coarser rounding of which layer norms hold most back.
"""
SHORT = 12
"""Tokens of the short shape: less than almost every case has, so that length really is dynamic."""


def prove_parity(
    reference: Callable[[Arrays], NDArray[Any]],
    device: Device,
    runtime: str,
    artifact: Artifact,
    signature: Signature,
    feeds: Arrays,
    shapes: Sequence[tuple[int, int]] | None = None,
) -> ParityRow:
    """Compare logits on the device's runtime with `reference` (canonical feeds -> (n, classes)).

    shapes: (batch, length) pairs, each with its share of the cases; default batches 1 and 3, the short and the given
    length. The cases are cut to the length, on both sides alike. Not finite or of another shape: not passed.
    """
    import numpy as np

    n = len(next(iter(feeds.values()))) if feeds else 0
    if n == 0:
        raise StepError("parity needs at least one case", hint="the search split is empty")
    chosen = list(shapes or default_shapes(signature, feeds))
    differences, largest, ok, names = [], 0.0, True, []
    for index, (batch, length) in enumerate(chosen):
        rows = np.arange(n)[index % n :: len(chosen)] if n >= len(chosen) else np.arange(n)
        part = {name: cut(np.asarray(array)[rows], length) for name, array in feeds.items()}
        ours = run_outputs(device, runtime, artifact, signature, part, batch=batch)["logits"].astype(np.float64)
        theirs = np.asarray(reference(part), dtype=np.float64)
        names.append(f"{batch}x{length}")
        if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            ok = False
            continue
        differences.append(np.abs(ours - theirs).ravel())
        largest = max(largest, float(np.abs(theirs).max(initial=0.0)))
    return _row(differences, largest, ok, n, names, signature)


def _row(
    differences: list[NDArray[Any]], largest: float, ok: bool, n: int, names: list[str], signature: Signature
) -> ParityRow:
    import numpy as np

    tolerance = TOLERANCE[signature.outputs["logits"].dtype] * max(1.0, largest)
    every = np.concatenate(differences) if differences else np.array([np.finfo(np.float64).max])
    worst, mean = float(every.max()), float(every.mean())
    return ParityRow(
        max_abs=worst, mean_abs=mean, tolerance=tolerance, cases=n, shapes=names, passed=ok and worst <= tolerance
    )


def default_shapes(signature: Signature, feeds: Arrays) -> list[tuple[int, int]]:
    """Batches 1 and 3 at the short and the given length; only what a fixed dimension allows."""
    length = next((array.shape[1] for array in feeds.values() if array.ndim > 1), 1)
    fixed = {
        axis: any(len(spec.shape) > axis and isinstance(spec.shape[axis], int) for spec in signature.inputs.values())
        for axis in (0, 1)
    }
    whole = any(spec.dtype == "str" for spec in signature.inputs.values())  # a text is not cut as its tokens are
    batches = [1] if fixed[0] else [1, 3]
    lengths = [length] if fixed[1] or whole or length <= SHORT else [length, SHORT]
    return [(batch, size) for size in lengths for batch in batches]


def cut(array: NDArray[Any], length: int) -> NDArray[Any]:
    """The first `length` columns of an array with columns."""
    return array[:, :length] if array.ndim > 1 else array
