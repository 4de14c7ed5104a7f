"""The reason of a verdict as a sentence a person understands."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from edgeft.gate import Status
from edgeft.metric_names import is_share, unit_of

if TYPE_CHECKING:
    from edgeft.evaluate.quantities import Quantity
    from edgeft.gate import Gate
    from edgeft.measurement import Measurement

UNITS = {"artifact_mb": "MB", "peak_memory_mb": "MB"}
MAX_DECIMALS = 6


def explain_data(gate: Gate, quantity: Quantity, status: Status, needed: int | None) -> str:
    """`accuracy 91.2% against 91.5% of the source on 1,480 cases: 14 lost, 10 gained; with 95% confidence at most
    0.9 points worse (margin 2.0)`."""
    percent = in_percent(gate)
    seen = _what_was_seen(gate, quantity, percent)
    told = _loss_bound if quantity.source is not None else _bound
    bound = told(quantity, status, percent, measured_in(gate))
    cut = gate.at_worst is not None and quantity.source is not None
    bound += f", no case counting for more than {gate.at_worst:g}{measured_in(gate)}" if cut else ""
    return f"{seen}; with {_percent(gate.confidence)} confidence {bound}{_remedy(quantity, status, needed)}"


def in_percent(gate: Gate) -> bool:
    """Whether people read its value as a percentage."""
    return is_share(gate.metric) or gate.cases_losing is not None


def measured_in(gate: Gate) -> str:
    """` mm`, ` ml`, or nothing: what follows a value of the gate's metric."""
    unit = "" if gate.cases_losing is not None else unit_of(gate.metric)
    return f" {unit}" if unit else ""


def explain_resource(gate: Gate, measurement: Measurement, status: Status, needed: int | None) -> str:
    """`latency_p90_ms 4.31 ms (95% interval 4.25 to 4.40, 1,024 runs on local-cpu): at most 6 ms`."""
    unit = UNITS.get(gate.metric, "ms")
    limit = gate.at_most if gate.at_most is not None else float("nan")
    if measurement.interval is None or measurement.interval[0] == measurement.interval[1]:
        digits = _decimals(measurement.value, limit, 2)
        seen = f"{gate.metric} {measurement.value:.{digits}f} {unit} on {measurement.where}"
    else:
        low, high = measurement.interval
        edge = low if status == "FAIL" else high
        digits = _decimals(edge, limit, 2)
        seen = (
            f"{gate.metric} {measurement.value:.{digits}f} {unit} ({_percent(measurement.confidence)} interval "
            f"{low:.{digits}f} to {high:.{digits}f}, n = {measurement.n:,}, on {measurement.where})"
        )
    ending = {
        "PASS": f"at most {limit:g} {unit}, as required",
        "FAIL": f"above the limit of {limit:g} {unit}",
        "INCONCLUSIVE": f"the interval reaches across the limit of {limit:g} {unit}",
    }[status]
    more = f"; about {needed:,} runs would decide it" if needed else ""
    return f"{seen}: {ending}{more}"


def _what_was_seen(gate: Gate, quantity: Quantity, percent: bool) -> str:
    places = 1 if percent else 4
    name = gate.subject if quantity.source is None else gate.plain_subject
    subject = name if gate.cases_losing is None else f"{quantity.name} of {name}"
    sign = "%" if percent else measured_in(gate)
    text = f"{subject} {_number(quantity.value, places, percent)}{sign}"
    if quantity.source is not None:
        text += f" against {_number(quantity.source, places, percent)}{sign} of the {gate.baseline}"
    text += f" on {quantity.bound.n:,} cases{f' {quantity.among}' if quantity.among else ''}"
    if quantity.units != quantity.bound.n:
        text += f" in {quantity.units:,} unit{'s' if quantity.units != 1 else ''}"
    if quantity.counts:
        text += f": {quantity.counts[0]:,} lost, {quantity.counts[1]:,} gained"
    return text


def _loss_bound(quantity: Quantity, status: Status, percent: bool, unit: str) -> str:
    edge = quantity.bound.low if status == "FAIL" else quantity.bound.high
    scale, start = (100, 1) if percent else (1, 4)
    places = _decimals(edge * scale, quantity.limit * scale, start)
    size = f"{abs(edge) * scale:.{places}f}{' points' if percent else unit}"
    margin = f"(margin {quantity.limit * scale:.{places}f})"
    if edge <= 0:
        return f"at least {size} better {margin}" if float(f"{abs(edge) * scale:.{places}f}") else f"no worse {margin}"
    words = {"PASS": "at most", "FAIL": "at least", "INCONCLUSIVE": "possibly up to"}[status]
    return f"{words} {size} worse {margin}"


def _bound(quantity: Quantity, status: Status, percent: bool, unit: str) -> str:
    above = (status == "FAIL") == quantity.upper
    edge = quantity.bound.low if above else quantity.bound.high
    scale, start, sign = (100, 1, "%") if percent else (1, 4, unit)
    places = _decimals(edge * scale, quantity.limit * scale, start)
    need = f"(required: at {'most' if quantity.upper else 'least'} {quantity.limit * scale:.{places}f}{sign})"
    words = ("only " if status == "INCONCLUSIVE" else "") + ("at least" if above else "at most")
    return f"{words} {edge * scale:.{places}f}{sign} {need}"


def _remedy(quantity: Quantity, status: Status, needed: int | None) -> str:
    if status != "INCONCLUSIVE":
        return ""
    if needed is None:
        return "; the observed value is itself beyond the limit or too near: more cases would not make it pass"
    if quantity.units < quantity.bound.n and not quantity.among:
        units = ceil(needed * quantity.units / quantity.bound.n)
        return f"; about {needed:,} cases in {units:,} such units would show it at the observed rates"
    such = "such " if quantity.among and not quantity.among.startswith("(") else ""
    return f"; about {needed:,} {such}cases would show it at the observed rates"


def _percent(share: float) -> str:
    return f"{share * 100:.4g}%"


def _number(value: float, places: int, percent: bool) -> str:
    return f"{value * (100 if percent else 1):.{places}f}"


def _decimals(value: float, limit: float, start: int) -> int:
    """Fewest decimals, from `start`, at which both differ in print, so that a sentence never contradicts itself."""
    for places in range(start, MAX_DECIMALS):
        if f"{value:.{places}f}" != f"{limit:.{places}f}" or value == limit:
            return places
    return MAX_DECIMALS
