"""Two versions side by side, from what their bundles recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from edgeft.metric_names import RESOURCE_METRICS
from edgeft.ship.registry.facts import BundleFacts, VerdictFact

NO_COMPARISON = (
    "Recorded latencies and memory were measured at different times and perhaps on different machines: they are not "
    "compared here. `edgeft check CANDIDATE --baseline BASELINE` measures both in turn."
)
OTHER_CASES = "The two were gated on different cases: their metrics cannot be set against each other"
UNKNOWN_CASES = "At least one does not say on which cases it was gated: their metrics may not be of the same ones"


@dataclass(frozen=True)
class Difference:
    """One property of both, as text; same: whether they are equal."""

    what: str
    one: str
    other: str
    same: bool


@dataclass(frozen=True)
class Comparison:
    """rows: every property; notes: what a reader must know."""

    rows: tuple[Difference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def compare_facts(one: BundleFacts, other: BundleFacts) -> Comparison:
    """Verdicts, sizes, labels, inputs, outputs, origin; metrics of the gate set where both have them."""
    rows = [*_plain(one, other), *_tensors(one, other), *_verdicts(one, other), *_metrics(one, other)]
    notes = [NO_COMPARISON]
    if not (one.gate_set and other.gate_set):
        notes.append(UNKNOWN_CASES)
    elif one.gate_set != other.gate_set:
        notes.append(OTHER_CASES)
    return Comparison(tuple(rows), tuple(notes))


def is_recorded_time(metric: str) -> bool:
    """True for what says something about one machine at one moment."""
    return metric in RESOURCE_METRICS - {"artifact_mb"}


def _plain(one: BundleFacts, other: BundleFacts) -> Iterator[Difference]:
    for what in ("status", "device", "task", "candidate", "runtime", "edgeft"):
        yield _row(what, getattr(one, what), getattr(other, what))
    for what in ("model_bytes", "bytes"):
        yield _row(what.replace("_", " "), f"{getattr(one, what):,}", f"{getattr(other, what):,}")
    yield _row("labels", _labels(one), _labels(other))
    yield _row("recipe", one.recipe, other.recipe, short=True)
    for split in sorted(one.data.keys() | other.data.keys()):
        yield _row(f"data: {split}", one.data.get(split, ""), other.data.get(split, ""), short=True)


def _tensors(one: BundleFacts, other: BundleFacts) -> Iterator[Difference]:
    for side in ("inputs", "outputs"):
        ours, theirs = getattr(one, side), getattr(other, side)
        for name in sorted(ours.keys() | theirs.keys()):
            yield _row(f"{side[:-1]} {name}", ours.get(name, "absent"), theirs.get(name, "absent"))


def _verdicts(one: BundleFacts, other: BundleFacts) -> Iterator[Difference]:
    ours, theirs = ({verdict.gate: verdict for verdict in facts.verdicts} for facts in (one, other))
    for gate in sorted(ours.keys() | theirs.keys()):
        yield _row(f"gate {gate}", verdict_text(ours.get(gate)), verdict_text(theirs.get(gate)))


def _metrics(one: BundleFacts, other: BundleFacts) -> Iterator[Difference]:
    for name in sorted(one.metrics.keys() | other.metrics.keys()):
        if not is_recorded_time(name):
            yield _row(name, _number(one.metrics.get(name)), _number(other.metrics.get(name)))


def verdict_text(verdict: VerdictFact | None) -> str:
    """`PASS 0.004 (-0.002 to 0.011)`; of a time the verdict alone, so that nobody sets two of them side by side."""
    if verdict is None:
        return "no such gate"
    warn = " (warns only)" if verdict.severity == "warn" else ""
    if verdict.value is None or is_recorded_time(verdict.metric):
        return f"{verdict.status}{warn}"
    low, high = verdict.interval or (verdict.value, verdict.value)
    span = f" ({low:.4g} to {high:.4g})" if low != high else ""
    return f"{verdict.status} {verdict.value:.4g}{span}{warn}"


def _labels(facts: BundleFacts) -> str:
    """In their order, which is part of what a model means."""
    return ", ".join(facts.labels)


def _number(value: float | None) -> str:
    return "not stated" if value is None else f"{value:.4g}"


def _row(what: str, one: str, other: str, *, short: bool = False) -> Difference:
    shown = [(text[:12] if short else text) or "not stated" for text in (one, other)]
    return Difference(what, shown[0], shown[1], one == other and bool(one))
