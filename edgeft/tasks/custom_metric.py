"""A user's own metric: `score.py:f` in a gate.

The function is `f(logits, labels, rows)`: logits (n, classes) float32, labels (n,) int64 places in the label list, rows
a pyarrow table with id, text, label, group and unit. It returns one number, higher is better, or one number per case
((n,) array: 0/1 or any score), which allows a paired comparison case by case.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeft.errors import StepError
from edgeft.usercode import call, check_function, code_digest, load_function

Metric = Callable[[Any, Any, Any], Any]


def check_metric(spec: str) -> None:
    """RecipeError when the file is missing or defines no such function; nothing is run."""
    check_function(spec)


def metric_digest(spec: str, file_digest: Callable[[Path], str]) -> str:
    """Digest of the metric's code, for cache keys."""
    return code_digest(spec, file_digest)


def load_metric(spec: str) -> Metric:
    """The function, wrapped: it answers a finite float or a float64 array (n,) of finite values, else StepError.

    An exception in the user's code becomes a StepError at its own line.
    """
    function = load_function(spec)

    def metric(logits: Any, labels: Any, rows: Any) -> Any:
        return _checked(spec, call(spec, function, logits, labels, rows), len(labels))

    return metric


def _checked(spec: str, value: Any, n: int) -> Any:
    import numpy as np

    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        what = f"{spec} returned a {type(value).__name__}"
        raise StepError(what, hint="return one number, or one number per case") from error
    if found.ndim == 0 and np.isfinite(found):
        return float(found)
    if found.shape == (n,) and np.isfinite(found).all():
        return found
    what = "a value that is not finite" if found.shape in ((), (n,)) else f"an array of shape {found.shape}"
    raise StepError(f"{spec} returned {what}", hint=f"return one finite number, or {n} of them, one per case")
