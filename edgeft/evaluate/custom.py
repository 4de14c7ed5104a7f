"""A user's own metric: values per case, or a function of cases, with its failures named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from edgeft.errors import StepError
from edgeft.evaluate.betting import bound_mean
from edgeft.evaluate.bootstrap import bound_from_callback
from edgeft.evaluate.statistics import Bound, Undecidable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Values: TypeAlias = Floats | Callable[[Indices], float]


@dataclass(frozen=True)
class CustomValues:
    """A user's own metric on the gate set, higher being better.

    artefact, source: (n,) float64 values per case whose mean is the metric, or a function of row numbers (repeated
    ones included) that gives the metric of those rows. Both of one form.
    """

    artefact: Values
    source: Values | None = None


def bound_custom(ours: Values, theirs: Values | None, units: NDArray[Any], alpha: float, worst: float) -> Bound:
    """Bounds of ours, or of theirs - ours.

    worst: values per case, or their differences, count for no more than this, either way, and the bound holds for that
    mean. What a function gives cannot be cut: Undecidable where it, or the difference, lies beyond.
    """
    import numpy as np

    if callable(ours):
        if theirs is not None and not callable(theirs):
            raise TypeError("custom values of artefact and source must have one form")
        made, given = ours, theirs
        metric = made if given is None else lambda rows: given(rows) - made(rows)
        return bound_from_callback(_within(metric, worst), units, alpha, worst=worst)
    if callable(theirs):
        raise TypeError("custom values of artefact and source must have one form")
    values = np.clip(ours if theirs is None else theirs - ours, -worst, worst)
    return bound_mean(values, units, alpha, low=-worst, high=worst)


def _within(function: Callable[[Indices], float], worst: float) -> Callable[[Indices], float]:
    def call(rows: Indices) -> float:
        value = function(rows)
        if abs(value) > worst:
            raise Undecidable(f"it gave {value:g}, beyond the gate's at_worst {worst:g}")
        return value

    return call


def as_metric(name: str, values: Values, n: int) -> Values:
    """Per-case values checked, or the user's function with its failures named."""
    import numpy as np

    if not callable(values):
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (n,):
            raise StepError(f"metric {name} gave values of shape {array.shape} for {n} cases", hint="one per case")
        if not np.isfinite(array).all():
            raise Undecidable(f"{int((~np.isfinite(array)).sum())} of {n} values are not finite")
        return array
    function = values

    def call(rows: Indices) -> float:
        try:
            return float(function(rows))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            hint = "it is called on resampled rows: repeated rows and missing classes must not make it fail"
            raise StepError(f"metric {name} failed: {type(error).__name__}: {error}", hint=hint) from error

    return call


def mean_of(values: Values, n: int) -> float:
    import numpy as np

    return float(values(np.arange(n, dtype=np.int64)) if callable(values) else values.mean())
