"""Logits that are NaN or infinite: which layer of a torch model they begin in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.predict import predict_logits

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from edgeft.task import Arrays


def refuse_broken_logits(
    module: torch.nn.Module,
    feeds: Arrays,
    logits: NDArray[np.float32],
    plain: Callable[[Arrays], Arrays] | None,
    whose: str,
    where: str,
) -> None:
    """StepError where logits (n, classes, ...) hold a value that is not finite, with the layer of the first such case.

    plain: as `predict_logits` has it. whose: the model in words.
    """
    import numpy as np

    broken = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
    if not len(broken):
        return
    case = {name: array[broken[0] : broken[0] + 1] for name, array in feeds.items()}
    layer = first_broken_layer(module, case, plain)
    raise StepError(
        f"logits of {whose} are NaN or infinite in {len(broken)} of {len(logits)} cases"
        + (f"; in the first of them this begins in {layer}" if layer else ""),
        where=where,
        hint="look at that layer's weights and at what it is given; float16 weights overflow beyond 65504",
    )


def first_broken_layer(module: torch.nn.Module, case: Arrays, plain: Callable[[Arrays], Arrays] | None = None) -> str:
    """`layer encoder.layer.3.output.dense (its weights are not finite)`: the first module to finish with a value that
    is not finite, on one case; empty where every one's are."""
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(part: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if found or _finite(output):
                return
            weights = list(part.parameters(recurse=False))
            if not _finite(weights):
                found.append(f"layer {name} (its weights are not finite)")
            elif not _finite((args, kwargs)):
                found.append(f"what layer {name} is given")
            else:
                found.append(f"layer {name}")

        return hook

    hooks = [part.register_forward_hook(watch(name), with_kwargs=True) for name, part in module.named_modules() if name]
    try:
        predict_logits(module, case, batch_size=1, plain=plain)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""


def _finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _floats(value))


def _floats(value: Any) -> Iterator[torch.Tensor]:
    """Floating-point tensors in what a module takes or gives."""
    if hasattr(value, "is_floating_point"):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        yield from (tensor for item in value.values() for tensor in _floats(item))
    elif isinstance(value, list | tuple):
        yield from (tensor for item in value for tensor in _floats(item))
