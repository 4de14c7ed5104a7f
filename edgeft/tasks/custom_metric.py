"""A user's own metric: `score.py:f` in a gate.

The function is `f(logits, labels, rows)`: logits (n, classes) float32, labels (n,) int64 places in the label list, rows
a pyarrow table with id, text, label, group and unit. It returns one number, higher is better, or one number per case
((n,) array: 0/1 or any score), which allows a paired comparison case by case.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeft.errors import RecipeError, StepError
from edgeft.usercode import call, code_digest, load_function, split_spec

Metric = Callable[[Any, Any, Any], Any]


def check_metric(spec: str) -> None:
    """RecipeError when the file is missing or defines no such function; nothing is run."""
    path, function = split_spec(spec)
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise RecipeError(f"{getattr(error, 'msg', error)}", where=f"{path}:{line}") from error
    names = {
        name
        for node in tree.body
        for name in (
            [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            else [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign)
            else [alias.asname or alias.name for alias in node.names] if isinstance(node, ast.ImportFrom)
            else []
        )
    }  # fmt: skip
    if function not in names:
        known = ", ".join(sorted(names)) or "nothing"
        raise RecipeError(f"{path.name} has no function '{function}'", where=str(path), hint=f"it defines: {known}")


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
