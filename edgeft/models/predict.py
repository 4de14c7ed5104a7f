"""Feeds in, logits out, for transformers models, PEFT-wrapped ones and plain torch code alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.layers import is_transformers, predicts_tokens, unwrap

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from edgeft.task import Arrays

CODE_FEEDS = ("input_ids", "attention_mask")
"""What a code model is called with when its forward names nothing (only **kwargs)."""


def forward_logits(module: torch.nn.Module, feeds: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """logits (batch, classes, ...), of a language model (batch, length, classes). Feeds the model's forward does not
    name are left out.

    A code model may return the logits, a tuple that starts with them, a dictionary with `logits`, or an object with it.
    """
    return _logits_of(_call(module, feeds))


def forward_hidden(
    module: torch.nn.Module, feeds: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """(logits, hidden states from the first layer to the last); none where the model exposes none.

    transformers models are asked for them; a code model exposes them as `hidden_states` beside `logits`, in the
    dictionary or object it returns.
    """
    output = _call(module, feeds, **({"output_hidden_states": True} if is_transformers(module) else {}))
    found = output.get("hidden_states") if isinstance(output, Mapping) else getattr(output, "hidden_states", None)
    return _logits_of(output), tuple(found or ())


def _call(module: torch.nn.Module, feeds: Mapping[str, torch.Tensor], **asked: Any) -> Any:
    """The module on the feeds it takes: by name, or the only one by position."""
    named = {name: feeds[name] for name in chosen_feeds(module, feeds)}
    if predicts_tokens(module) and "use_cache" in accepted_feeds(module):
        asked["use_cache"] = False  # whole texts are answered at once: keys and values are not asked for again
    if named.keys() <= accepted_feeds(module):
        return module(**named, **asked)
    return module(*named.values())


def _logits_of(output: Any) -> torch.Tensor:
    if hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not hasattr(output, "dtype"):
        raise StepError(
            f"the model returned {type(output).__name__}, not logits",
            hint="return a tensor (batch, classes), or an object with .logits",
        )
    found: torch.Tensor = output
    return found


def accepted_feeds(module: torch.nn.Module) -> frozenset[str]:
    """Canonical feed names that the model's forward takes by name."""
    kind: Any = type(unwrap(module))
    return _forward_names(kind)


def chosen_feeds(module: torch.nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """Of the canonical feeds those the model takes: by name, or the only one there is by position (code models)."""
    names, accepted = tuple(names), accepted_feeds(module)
    chosen = tuple(name for name in names if name in accepted)
    if not chosen and len(names) == 1 and not is_transformers(module):
        return names
    return chosen


@cache
def _forward_names(kind: Any) -> frozenset[str]:
    parameters = list(inspect.signature(kind.forward).parameters.values())[1:]
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return frozenset(named or CODE_FEEDS)


def may_trim(module: torch.nn.Module) -> bool:
    """True where columns that are padding in every row may be cut: transformers models mask them, code may not."""
    return is_transformers(module)


def trim_padding(feeds: dict[str, torch.Tensor], multiple: int = 1) -> dict[str, torch.Tensor]:
    """Cut trailing columns that no row attends to, to a multiple of so many. feeds: name -> (batch, length, ...)."""
    mask = feeds.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.shape[0] == 0:
        return feeds
    used = mask.any(dim=0).nonzero()
    end = int(used[-1]) + 1 if len(used) else 1
    end = min(-(-end // multiple) * multiple, mask.shape[1])
    if end == mask.shape[1]:
        return feeds
    return {
        name: tensor[:, :end] if tensor.ndim >= 2 and tensor.shape[1] == mask.shape[1] else tensor
        for name, tensor in feeds.items()
    }


def predict_logits(
    module: torch.nn.Module,
    feeds: Arrays,
    *,
    batch_size: int = 32,
    device: str | None = None,
    plain: Callable[[Arrays], Arrays] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> NDArray[np.float32]:
    """logits (n, classes) float32 of canonical feeds (n, ...), row order kept; module is left in eval mode. Those of a
    language model, (n, length, classes), are 0 at padded tokens that were cut.

    Rows are batched by length and padding is cut, so a batch costs what its longest row costs. The batch split
    changes float32 results by rounding only (below 1e-5 on logits of order 1). device: default the module's own.
    plain: makes of a batch's canonical feeds what the module takes (a task's `plain`).
    """
    import numpy as np
    import torch

    if not feeds:
        raise StepError("the task gave no feeds for these rows", hint="check the task's preprocessing")
    feeds = {name: array for name, array in feeds.items() if np.asarray(array).dtype.kind != "U"}  # texts
    where = torch.device(device) if device else next(module.parameters()).device
    module.eval()
    n = len(next(iter(feeds.values())))
    trim = may_trim(module)
    order = _by_length(feeds, n)
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            part = {name: array[rows] for name, array in feeds.items()}
            part = dict(plain(part)) if plain else part
            batch = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in part.items()}
            batch = trim_padding(batch) if trim else batch
            logits = forward_logits(module, {name: tensor.to(where) for name, tensor in batch.items()})
            parts.append(_full_length(logits.float().cpu().numpy(), feeds))
            if progress:
                progress(min(start + batch_size, n), n)
    if not parts:
        return np.zeros((0, 0), dtype=np.float32)
    stacked = np.concatenate(parts)
    result = np.empty_like(stacked)
    result[order] = stacked
    return result


def _full_length(logits: NDArray[np.float32], feeds: Arrays) -> NDArray[np.float32]:
    """Logits of tokens, (n, length, classes), at the feeds' length; others as they are."""
    import numpy as np

    if logits.ndim != 3 or "attention_mask" not in feeds:
        return logits
    left = int(np.shape(feeds["attention_mask"])[1]) - logits.shape[1]
    return np.pad(logits, ((0, 0), (0, left), (0, 0))) if left > 0 else logits


def _by_length(feeds: Arrays, n: int) -> NDArray[np.int64]:
    import numpy as np

    mask = feeds.get("attention_mask")
    if mask is None or np.ndim(mask) != 2:
        return np.arange(n, dtype=np.int64)
    return np.argsort(np.asarray(mask).sum(axis=1), kind="stable").astype(np.int64)
