"""Outputs of two models on the same inputs, and how the inputs and outputs of one are those of the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Signature, TensorSpec
from edgeft.device.profile import Device
from edgeft.errors import RecipeError
from edgeft.targets.compare import Side
from edgeft.targets.measure import run_outputs
from edgeft.targets.profile.record import OutputRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays


def translate_feeds(feeds: Arrays, theirs: Signature, ours: Signature) -> dict[str, NDArray[Any]]:
    """Canonical feeds of one model under the names of another: by name, else in order where kinds and ranks agree.

    RecipeError where they cannot be told apart.
    """
    names = match_tensors(theirs.inputs, ours.inputs)
    if names is None:
        raise RecipeError(
            f"the models take different inputs: {tell_tensors(theirs.inputs)}, and {tell_tensors(ours.inputs)}",
            hint="only models of the same inputs can be compared on the same inputs",
        )
    return {name: feeds[names[name]] for name in ours.inputs}


def match_tensors(theirs: Mapping[str, TensorSpec], ours: Mapping[str, TensorSpec]) -> dict[str, str] | None:
    """Our name -> their name: the same names, else the same order where kind (integer, float) and rank agree."""
    if set(ours) == set(theirs):
        return {name: name for name in ours}
    if len(ours) != len(theirs):
        return None
    pairs = dict(zip(ours, theirs, strict=True))
    alike = all(_form(ours[name]) == _form(theirs[other]) for name, other in pairs.items())
    return pairs if alike else None


def measure_differences(device: Device, a: Side, b: Side, batch: int) -> tuple[list[OutputRow], str]:
    """(B's outputs against A's over all cases, empty) or ([], why they cannot be compared)."""
    import numpy as np

    names = match_tensors(a.signature.outputs, b.signature.outputs)
    if names is None:
        ours, theirs = (tell_tensors(side.signature.outputs) for side in (a, b))
        return [], f"the outputs differ in kind: {ours}, and {theirs}"
    first = run_outputs(device, a.runtime, a.artifact, a.signature, a.feeds, batch=batch)
    second = run_outputs(device, b.runtime, b.artifact, b.signature, b.feeds, batch=batch)
    rows = []
    for name, other in names.items():
        left, right = np.asarray(first[other]), np.asarray(second[name])
        if left.shape != right.shape:
            return [], f"{other} has shape {list(left.shape)}, {name} {list(right.shape)}"
        if left.dtype.kind not in "fiub" or right.dtype.kind not in "fiub" or left.size == 0:
            return [], f"{other} holds {left.dtype}, which has no differences"
        gap = np.abs(left.astype(np.float64) - right.astype(np.float64))
        if not np.isfinite(gap).all():
            return [], f"{other} is not finite"
        top = None
        if left.ndim == 2 and left.shape[1] > 1:
            top = float(np.mean(left.argmax(axis=1) == right.argmax(axis=1)))
        rows.append(
            OutputRow(
                name=name, against=other, n=len(left), max_abs=float(gap.max()), mean_abs=float(gap.mean()),
                top1_agreement=top,
            )
        )  # fmt: skip
    return rows, ""


def _form(spec: TensorSpec) -> tuple[str, int]:
    return "integer" if spec.dtype.startswith(("int", "uint")) else "float", len(spec.shape)


def tell_tensors(specs: Mapping[str, TensorSpec]) -> str:
    """`input_ids int64 1x64, mask int64 1x64`."""
    return ", ".join(f"{name} {spec.dtype} {'x'.join(map(str, spec.shape))}" for name, spec in specs.items())
