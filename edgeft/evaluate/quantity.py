"""What a gate is decided on, once it is known: a bound and its limit, with all that a sentence about it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.needed import rows_for_width
from edgeft.evaluate.statistics import Bound, Undecidable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.gate import Gate


@dataclass(frozen=True)
class Quantity:
    """bound against limit; upper: it may not be above the limit (a loss), otherwise not below (an absolute value).

    value, source: the metric as people know it, source of whatever the gate compares with. counts: (lost, gained)
    where cases flip. units: independent ones. among: which cases count, where not all do (`labelled 'malignant'`).
    """

    name: str
    bound: Bound
    limit: float
    upper: bool
    value: float
    units: int
    needed: Callable[[], int | None]
    method: str
    source: float | None = None
    counts: tuple[int, int] | None = None
    among: str = ""

    def among_these(self, among: str) -> Quantity:
        """The same, saying which cases count."""
        return replace(self, among=among)


def loss_of(
    gate: Gate, bound: Bound, value: float, source: float, units: int, counts: tuple[int, int] | None = None
) -> Quantity:
    """Of a bound on how much worse the artefact is than what the gate compares with."""
    margin = gate.margin or 0.0
    require_finite(bound)
    return Quantity(
        name=f"loss of {gate.subject}",
        bound=bound,
        limit=margin,
        upper=True,
        value=value,
        source=source,
        counts=counts,
        units=units,
        needed=lambda: rows_for_width(bound.n, bound.estimate, bound.high, margin),
        method=bound.method,
    )


def absolute(gate: Gate, bound: Bound, units: int) -> Quantity:
    """Of a bound on the metric itself."""
    limit, upper = limit_of(gate)
    require_finite(bound)
    edge = bound.high if upper else bound.low
    return Quantity(
        name=gate.subject,
        bound=bound,
        limit=limit,
        upper=upper,
        value=bound.estimate,
        units=units,
        needed=lambda: rows_for_width(bound.n, bound.estimate, edge, limit),
        method=bound.method,
    )


def limit_of(gate: Gate) -> tuple[float, bool]:
    """(limit, upper) of an absolute gate."""
    if gate.at_least is not None:
        return gate.at_least, False
    if gate.at_most is None:
        raise Undecidable("the gate has no limit")
    return gate.at_most, True


def require_finite(bound: Bound) -> None:
    """Undecidable for a bound that some resample left without a value."""
    if not all(isfinite(x) for x in (bound.estimate, bound.low, bound.high)):
        raise Undecidable("it is not a finite number on every resample of the gate set")


def count_units(units: NDArray[Any]) -> int:
    """How many different ones there are."""
    import numpy as np

    return len(np.unique(units))
