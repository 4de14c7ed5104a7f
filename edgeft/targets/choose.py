"""One candidate per target, fixed before the gate set is opened; every other one gets its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeft.gate import Gate, short_name
from edgeft.measurement import Measurement
from edgeft.metric_names import LATENCY_METRICS, RESOURCE_METRICS, lower_is_better
from edgeft.record import CandidateRow

Optimise = Literal["latency", "size", "energy-proxy"]
COSTS: Mapping[str, tuple[str, str]] = {
    "latency": ("latency_p50_ms", "p50"), "energy-proxy": ("processor_ms", "processor time"),
}  # fmt: skip
"""What is compared -> (metric, its name in sentences). A device's watts are the same for all and decide nothing."""
FLOAT = "float"


@dataclass(frozen=True)
class Miss:
    """Why a candidate may not be chosen. metric: of the gate it misses, empty where something was not measured.
    distance: how far it is off relative to what is asked."""

    metric: str
    reason: str
    distance: float


@dataclass(frozen=True)
class Choice:
    """rows: as given, in order, with status and why settled. chosen: a row's name, None when none is eligible.

    missed: metric of the gate that the nearest refused candidate misses; empty where one is chosen or none could run.
    undecided: none is chosen, and a candidate is refused by INVALID times alone: measured again, it may be eligible.
    """

    rows: list[CandidateRow]
    chosen: str | None
    why: str
    missed: str = ""
    undecided: bool = False


def choose(
    rows: Sequence[CandidateRow],
    optimise: Optimise,
    gates: Sequence[Gate],
    sources: Mapping[str, Mapping[str, float]],
    refused: Mapping[str, Miss] | None = None,
    released: Mapping[str, Mapping[str | None, Mapping[str, float]]] | None = None,
) -> Choice:
    """The least p50 latency, processor time or bytes among those that could pass the gates by their search-set values.

    rows: of one target, status `eligible` for those that ran. gates: those that hold on it. sources: row's name ->
    metric -> value of the source on the same search cases. refused: rows that a search has judged already. released:
    row's name -> released bundle as gates name it -> what `sources` has of the source. A compressed candidate must also
    beat its exporter's float one where that is eligible. Latencies whose intervals overlap the best one's are ties:
    they break by size, then by name.
    """
    settled: list[CandidateRow] = []
    misses: dict[str, Miss] = {}
    for row in rows:
        if row.status != "eligible":
            settled.append(row)
            continue
        others = {None: sources.get(row.name, {}), **(released or {}).get(row.name, {})}
        miss = (refused or {}).get(row.name) or _refusal(row, optimise, gates, others)
        if miss is not None:
            misses[row.name] = miss
            row = row.model_copy(update={"status": "rejected", "why": miss.reason})
        settled.append(row)
    settled = [_against_float(row, settled, optimise) for row in settled]
    eligible = [row for row in settled if row.status == "eligible"]
    if not eligible:
        doubtful = {row.name: misses[row.name] for row in settled if row.name in misses and _doubtful(row, misses)}
        why, missed = _none(settled, doubtful or misses)
        return Choice(settled, None, why, missed, bool(doubtful))
    best, why = _best(eligible, optimise)
    final = [_settle(row, best, optimise) for row in settled]
    return Choice(final, best.name, why)


def _refusal(
    row: CandidateRow, optimise: Optimise, gates: Sequence[Gate], others: Mapping[str | None, Mapping[str, float]]
) -> Miss | None:
    """Why this candidate may not be chosen, None if it may. others: released bundle, None for the source -> values."""
    if optimise != "size" and _spent(row, optimise) is None:
        what = "latency" if optimise == "latency" else COSTS[optimise][1]
        return Miss("", f"its {what} was not measured", float("inf"))
    found = None
    for gate in gates:
        if gate.severity == "block":
            reason, distance = _miss(row, gate, others.get(gate.released, {}))
            if reason:
                miss = Miss(gate.metric if distance < float("inf") else "", reason, distance)
                if not _by_invalid_times(row, miss):
                    return miss
                found = found or miss
    return found


def _by_invalid_times(row: CandidateRow, miss: Miss) -> bool:
    """Other work on the device made it look slow, perhaps: no reason to say that it is."""
    return miss.metric in LATENCY_METRICS and row.latency is not None and not row.latency.valid


def _doubtful(row: CandidateRow, misses: Mapping[str, Miss]) -> bool:
    return row.status == "rejected" and _by_invalid_times(row, misses[row.name])


def _miss(row: CandidateRow, gate: Gate, other: Mapping[str, float]) -> tuple[str, float]:
    if gate.cases_losing is not None:
        return "", 0.0  # single cases are not in a row: see losing_miss
    found = measurement(row, gate.subject)
    if found is None:
        if gate.metric in RESOURCE_METRICS:
            return f"{gate.metric} was not measured", float("inf")
        return "", 0.0  # a metric of the user's own is computed on the gate set alone
    value = found.value
    if gate.no_worse_than and gate.margin is not None:
        if gate.subject not in other:
            return "", 0.0
        lower = lower_is_better(gate.metric)
        drop = value - other[gate.subject] if lower else other[gate.subject] - value
        moves = "rises" if lower else "drops"
        since = f" since {short_name(gate.released)}" if gate.released else ""
        reason = f"{gate.subject} {moves} by {drop:.4g}{since} on the search set, the gate allows {gate.margin:g}"
        return (reason, drop - gate.margin) if drop > gate.margin else ("", 0.0)
    if gate.at_least is not None and value < gate.at_least:
        return (
            f"{gate.subject} is {value:.4g} on the search set, the gate asks {gate.at_least:g}",
            gate.at_least - value,
        )
    if gate.at_most is not None and value > gate.at_most:
        over = (value - gate.at_most) / gate.at_most if gate.at_most > 0 else float("inf")
        by = ", by INVALID times" if gate.metric in LATENCY_METRICS and row.latency and not row.latency.valid else ""
        return f"{gate.subject} is {value:.4g}{by}, the gate allows {gate.at_most:g}", over
    return "", 0.0


def _against_float(row: CandidateRow, rows: Sequence[CandidateRow], optimise: Optimise) -> CandidateRow:
    """Rejected when it is not faster (or smaller) than an eligible float candidate of the same exporter."""
    if row.status != "eligible" or _is_float(row):
        return row
    floats = [other for other in rows if _is_float(other) and other.exporter == row.exporter]
    if not floats or floats[0].status != "eligible":
        return row
    plain = floats[0]
    mine, other = (None, None) if optimise == "size" else (_spent(row, optimise), _spent(plain, optimise))
    if mine is not None and other is not None and mine.value >= other.value:
        better = "faster" if optimise == "latency" else "less processor time"
        why = f"not {better} than float here: {mine.value:.3g} ms against {other.value:.3g} ms"
    elif optimise == "size" and row.bytes >= plain.bytes:
        why = f"not smaller than float: {row.bytes / 1e6:.3g} MB against {plain.bytes / 1e6:.3g} MB"
    else:
        return row
    return row.model_copy(update={"status": "rejected", "why": why})


def _best(eligible: Sequence[CandidateRow], optimise: Optimise) -> tuple[CandidateRow, str]:
    if optimise == "size":
        best = min(eligible, key=lambda row: (row.bytes, row.name))
        return best, f"smallest of {len(eligible)} eligible: {best.bytes / 1e6:.3g} MB"
    fastest = min(eligible, key=lambda row: (_value(row, optimise), row.bytes, row.name))
    ties = [row for row in eligible if row is fastest or _overlap(row, fastest, optimise)]
    best = min(ties, key=lambda row: (row.bytes, row.name))
    name, most = COSTS[optimise][1], "fastest" if optimise == "latency" else "least"
    why = f"{most} of {len(eligible)} eligible: {name} {_value(best, optimise):.3g} ms"
    if len(ties) > 1:
        others = ", ".join(row.name for row in ties if row is not best)
        value = f"{name} {_value(best, optimise):.3g} ms"
        why = f"{value}, level with {others} within the intervals; smaller or first by name"
    doubtful = [row.name for row in eligible if row.latency is not None and not row.latency.valid]
    if doubtful:
        why += f"; INVALID times of {', '.join(doubtful)} took part: another may be faster on a quiet device"
    return best, why


def _settle(row: CandidateRow, best: CandidateRow, optimise: Optimise) -> CandidateRow:
    if row.name == best.name:
        words = {"size": "smallest", "latency": "fastest", "energy-proxy": "least processor time"}
        return row.model_copy(update={"status": "chosen", "why": words[optimise]})
    if row.status != "eligible" or row.why:
        return row
    if optimise == "size":
        return row.model_copy(update={"why": f"larger than {best.name}"})
    more = "slower" if optimise == "latency" else "more processor time"
    level = _overlap(row, best, optimise)
    return row.model_copy(update={"why": f"level with {best.name}" if level else f"{more} than {best.name}"})


def _none(rows: Sequence[CandidateRow], misses: Mapping[str, Miss]) -> tuple[str, str]:
    """(why no candidate is chosen, metric the nearest one misses)."""
    if not rows:
        return "there was no candidate", ""
    if not misses:
        return "no candidate could run: " + "; ".join(f"{row.name}: {row.why or row.status}" for row in rows), ""
    nearest = min(misses, key=lambda name: (misses[name].distance, name))
    return f"no candidate is eligible; nearest: {nearest}: {misses[nearest].reason}", misses[nearest].metric


def measurement(row: CandidateRow, metric: str) -> Measurement | None:
    """A candidate's measurement of a metric, the artefact's size included."""
    for data in row.metrics:
        if data["metric"] == metric:
            return Measurement.from_json(data)
    if metric == "artifact_mb" and row.bytes:
        return Measurement(metric, row.bytes / 1e6, "MB", 1, "measured", "", method="file size")
    return None


def _is_float(row: CandidateRow) -> bool:
    return bool(row.variant.get("name") == FLOAT)


def _spent(row: CandidateRow, optimise: Optimise) -> Measurement | None:
    return measurement(row, COSTS[optimise][0])


def _value(row: CandidateRow, optimise: Optimise) -> float:
    found = _spent(row, optimise)
    return found.value if found else float("inf")


def _overlap(row: CandidateRow, other: CandidateRow, optimise: Optimise) -> bool:
    mine, theirs = _spent(row, optimise), _spent(other, optimise)
    if mine is None or theirs is None:
        return False
    if mine.interval is None or theirs.interval is None:
        return mine.value == theirs.value
    return mine.interval[0] <= theirs.interval[1] and theirs.interval[0] <= mine.interval[1]
