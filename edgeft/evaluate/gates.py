"""Gates in, verdicts out. Only a bound on the right side of the limit is a PASS; everything unknown fails closed."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING, Any

from edgeft.errors import Exit, worst
from edgeft.evaluate.at_best import needed_at_best
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.needed import rows_for_width
from edgeft.evaluate.quantities import Quantity, quantity_for
from edgeft.evaluate.sentences import explain_data, explain_resource
from edgeft.evaluate.statistics import Undecidable
from edgeft.evaluate.subgroups import Cases, decide_each
from edgeft.gate import Gate, Status, Verdict
from edgeft.measurement import Measurement
from edgeft.metric_names import RESOURCE_METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.task import Score

__all__ = ["CustomValues", "decide_data_gate", "decide_resource_gate", "needed_at_best", "overall"]

COUNTED_METRICS = frozenset({"artifact_mb"})
"""Sizes of files: exact without an interval, and the same under emulation."""


def decide_data_gate(
    gate: Gate,
    target: str,
    artefact: Score,
    source: Score | None,
    units: NDArray[Any],
    *,
    truth: NDArray[np.int64] | None = None,
    custom: CustomValues | None = None,
    groups: NDArray[Any] | None = None,
) -> Verdict:
    """The verdict on a metric of the gate set.

    artefact, source: scores of the same n cases in the same order, source of whatever the gate compares with. units:
    (n,) labels of what was sampled independently. truth: (n,) label indices, needed by macro_f1 and what counts one
    label. custom: needed by a user's own metric, for which higher is better. groups: (n,) values of the column that
    `by` names. ValueError if the arrays are not of the same cases; StepError if the user's function fails.
    """
    if gate.by is None:
        return _decide(gate, target, Cases(artefact, source, units, truth, custom))
    if groups is None:
        return gate.answer(target, "INCONCLUSIVE", f"the column '{gate.by}' of its subgroups was not given")
    return decide_each(gate, target, Cases(artefact, source, units, truth, custom), groups, _decide)


def _decide(gate: Gate, target: str, cases: Cases) -> Verdict:
    try:
        quantity = quantity_for(gate, cases.artefact, cases.source, cases.units, cases.truth, cases.custom)
    except Undecidable as reason:
        why = f"{gate.subject} cannot be decided: {reason}"
        return gate.answer(target, "INCONCLUSIVE", why, n=len(cases.units))
    status = _status(quantity)
    needed = quantity.needed() if status == "INCONCLUSIVE" else None
    return gate.answer(
        target,
        status,
        explain_data(gate, quantity, status, needed),
        value=quantity.bound.estimate,
        interval=(quantity.bound.low, quantity.bound.high),
        n=quantity.bound.n,
        units=quantity.units,
        needed_n=needed,
        method=quantity.method,
        quantity=quantity.name,
        limit=quantity.limit,
    )


def decide_resource_gate(gate: Gate, target: str, measurement: Measurement | None) -> Verdict:
    """The verdict on latency, memory or size: decided on the interval, not on the value.

    Missing, not finite, estimated, emulated (but for file sizes), without an interval or with one of too little
    confidence: INCONCLUSIVE with the reason.
    """
    if gate.at_most is None:
        raise ValueError(f"{gate.metric} is gated by at_most")
    problem = _measurement_problem(gate, measurement)
    if measurement is None or problem:
        return gate.answer(target, "INCONCLUSIVE", problem, n=measurement.n if measurement else None)
    low, high = measurement.interval or (measurement.value, measurement.value)
    status = _compare(low, high, gate.at_most, upper=True)
    needed = None
    if status == "INCONCLUSIVE":
        needed = rows_for_width(measurement.n, measurement.value, high, gate.at_most)
    return gate.answer(
        target,
        status,
        explain_resource(gate, measurement, status, needed),
        value=measurement.value,
        interval=(low, high),
        n=measurement.n,
        needed_n=needed,
        method=measurement.method or "exact count",
        quantity=gate.metric,
        limit=gate.at_most,
    )


def overall(verdicts: Iterable[Verdict]) -> tuple[Status, Exit]:
    """The worst of what blocks, and its exit code; `warn` gates stop nothing. Where nothing blocks: inconclusive."""
    codes = {"PASS": Exit.OK, "FAIL": Exit.GATE_FAILED, "INCONCLUSIVE": Exit.INCONCLUSIVE}
    blocking = [codes[verdict.status] for verdict in verdicts if verdict.severity != "warn"]
    code = worst(*blocking) if blocking else Exit.INCONCLUSIVE
    names: dict[Exit, Status] = {Exit.OK: "PASS", Exit.GATE_FAILED: "FAIL", Exit.INCONCLUSIVE: "INCONCLUSIVE"}
    return names[code], code


def _compare(low: float, high: float, limit: float, *, upper: bool) -> Status:
    """upper: the value may not be above the limit; otherwise it may not be below."""
    if not (isfinite(low) and isfinite(high)):
        return "INCONCLUSIVE"
    if upper:
        return "PASS" if high <= limit else "FAIL" if low > limit else "INCONCLUSIVE"
    return "PASS" if low >= limit else "FAIL" if high < limit else "INCONCLUSIVE"


def _status(quantity: Quantity) -> Status:
    return _compare(quantity.bound.low, quantity.bound.high, quantity.limit, upper=quantity.upper)


def _measurement_problem(gate: Gate, measurement: Measurement | None) -> str:
    """Why a measurement cannot carry a verdict; empty if it can."""
    name = gate.metric
    if measurement is None:
        return f"{name} was not measured"
    if name not in RESOURCE_METRICS or measurement.metric != name:
        return f"{name} cannot be decided on a measurement of {measurement.metric}"
    if not all(isfinite(x) for x in (measurement.value, *(measurement.interval or ()))):
        return f"{name} is not a finite number"
    if name in COUNTED_METRICS:
        return ""
    if measurement.how != "measured":
        return f"{name} on {measurement.where} is {measurement.how}, not measured: it says nothing about the device"
    if measurement.interval is None:
        return f"{name} was measured without an interval on {measurement.n:,} runs"
    if (1 + measurement.confidence) / 2 < gate.confidence - 1e-9:
        return f"{name} has an interval of {measurement.confidence:.0%}, too little for {gate.confidence:.0%} one-sided"
    return ""
