"""The float artefact against the model it was made from, on real inputs of several shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, Signature, TensorSpec
from edgeft.device.profile import Device
from edgeft.errors import StepError
from edgeft.record import ParityRow
from edgeft.targets.measure import run_outputs
from edgeft.task import declared_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest absolute difference of logits, times max(1, largest logit), by the artefact's dtype.

float32: 24-bit rounding through a dozen layers leaves about 1e-6 (7e-7 measured on a MiniLM over 60 cases), 1e-5 with
other kernels on large logits; a wrong weight, mask or layer norm epsilon moves logits by 1e-3 and more. float16 and
bfloat16 have 11 and 8 bits: 2^13 and 2^16 times coarser rounding of which layer norms hold most back.
"""
Shape = tuple[int, int | None]
"""(batch, length); None where the feeds have no length."""
TEXTS = declared_inputs(None)
SHORT = 12
"""Tokens of the short shape: less than almost every case has, so that length really is dynamic."""


def prove_parity(
    reference: Callable[[Arrays], NDArray[Any]],
    device: Device,
    runtime: str,
    artifact: Artifact,
    signature: Signature,
    feeds: Arrays,
    inputs: Sequence[TensorSpec] = TEXTS,
    shapes: Sequence[Shape] | None = None,
) -> ParityRow:
    """Compare logits on the device's runtime with `reference` (canonical feeds -> logits (n, ...)).

    inputs: the feeds as preprocessing declares them; those with a `length` are cut to the shape's, on both sides alike.
    shapes: (batch, length) pairs, each with its share of the cases; default batches 1 and 3, the short and the given
    length. Not finite or of another shape: not passed.
    """
    import numpy as np

    n = len(next(iter(feeds.values()))) if feeds else 0
    if n == 0:
        raise StepError("parity needs at least one case", hint="the search split is empty")
    axes = {spec.name: spec.shape.index("length") for spec in inputs if "length" in spec.shape}
    chosen = list(shapes or default_shapes(signature, feeds, axes))
    differences, largest, ok, names = [], 0.0, True, []
    for index, (batch, length) in enumerate(chosen):
        rows = np.arange(n)[index % n :: len(chosen)] if n >= len(chosen) else np.arange(n)
        part = {name: cut(np.asarray(array)[rows], axes.get(name), length) for name, array in feeds.items()}
        ours = run_outputs(device, runtime, artifact, signature, part, batch=batch)["logits"].astype(np.float64)
        theirs = np.asarray(reference(part), dtype=np.float64)
        names.append(f"{batch}x{length}" if length is not None else "x".join(map(str, (batch, *_extents(feeds)))))
        if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            ok = False
            continue
        if ours.ndim == 3 and "attention_mask" in part:  # a row of logits per token: padded ones answer nothing
            real = np.asarray(part["attention_mask"]) != 0
            ours, theirs = ours[real], theirs[real]
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


def default_shapes(signature: Signature, feeds: Arrays, axes: Mapping[str, int]) -> list[Shape]:
    """Batches 1 and 3, with a `length` also at the short and the given one; only what a fixed dimension allows.

    axes: feed -> its axis of the length.
    """
    specs = signature.inputs
    whole = any(spec.dtype == "str" for spec in specs.values())  # a text is not cut as its tokens are
    batches = [1] if any(spec.shape and isinstance(spec.shape[0], int) for spec in specs.values()) else [1, 3]
    lengths: list[int | None] = [None]
    if axes:
        length = next(feeds[name].shape[axis] for name, axis in axes.items())
        fixed = whole or any(isinstance(specs[name].shape[axis], int) for name, axis in axes.items() if name in specs)
        lengths = [length] if fixed or length <= SHORT else [length, SHORT]
    return [(batch, size) for size in lengths for batch in batches]


def cut(array: NDArray[Any], axis: int | None, length: int | None) -> NDArray[Any]:
    """The first `length` entries along an axis, where there is one."""
    if axis is None or length is None:
        return array
    return array[(slice(None),) * axis + (slice(length),)]


def _extents(feeds: Arrays) -> tuple[int, ...]:
    return tuple(next(iter(feeds.values())).shape[1:])
