"""The three answers: accuracy paired case by case, time by the ratio's interval, size by counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate.gates import decide_data_gate
from edgeft.evaluate.needed import rows_for_width
from edgeft.evaluate.sentences import in_percent
from edgeft.gate import Status
from edgeft.ship.check.cases import BY
from edgeft.ship.check.record import CheckVerdict, Kind, PartRow
from edgeft.ship.check.stated import Margin
from edgeft.targets.sessions import Timing

if TYPE_CHECKING:
    import pyarrow as pa

    from edgeft.evaluate.custom import CustomValues
    from edgeft.task import Score

METHOD = "interleaved blocks A B B A in fresh processes, Student's t over their log ratios; each end one-sided at 97.5%"


def decide_accuracy(
    margin: Margin, device: str, ours: Score, theirs: Score, rows: pa.Table, custom: CustomValues | None = None
) -> CheckVerdict:
    """Non-inferiority of one metric on the same cases, by the bound that gates of a build are decided on."""
    from edgeft.data.table import column_array

    gate = margin.gate
    units, truth = column_array(rows, "unit"), column_array(rows, "label")
    groups = None if gate.by is None else column_array(rows, BY + gate.by)
    found = decide_data_gate(gate, device, ours, theirs, units, truth=truth, custom=custom, groups=groups)
    scale, unit = (100.0, "%") if in_percent(gate) else (1.0, "")
    figures = [side.metrics.get(gate.metric) for side in (ours, theirs)]
    candidate, baseline = (None if value is None else value * scale for value in figures)
    return CheckVerdict(
        check="accuracy",
        name=margin.name,
        status=found.status,
        why=found.why,
        severity=gate.severity,
        candidate=candidate,
        baseline=baseline,
        unit=unit,
        value=found.value,
        interval=found.interval,
        limit=margin.limit,
        limit_from=margin.origin,
        owner=found.owner,
        justification=found.justification,
        unaccounted=list(found.unaccounted),
        n=found.n,
        needed_n=found.needed_n,
        method=found.method,
        parts=[
            PartRow(
                subgroup=part.subgroup, status=part.status, why=part.why, value=part.value,
                interval=part.interval, n=part.n, needed_n=part.needed_n,
            )
            for part in found.parts
        ],
    )  # fmt: skip


def withhold(verdict: CheckVerdict, why: str) -> CheckVerdict:
    """A PASS that was shown on the wrong cases is INCONCLUSIVE, and says why; anything else stays what it is."""
    if not why or verdict.status != "PASS":
        return verdict
    return verdict.model_copy(update={"status": "INCONCLUSIVE", "why": f"{verdict.why}; that is no PASS: {why}"})


def decide_latency(found: Timing, margin: float, origin: str, device: str) -> CheckVerdict:
    """Candidate's time over the baseline's, held against 1 + margin.

    PASS where the interval's upper end is within the limit, FAIL where its lower end is beyond; an INVALID comparison
    is INCONCLUSIVE whatever it shows.
    """
    (low, high), ratio, limit = found.interval, found.ratio, 1 + margin
    status: Status = "PASS" if high <= limit else "FAIL" if low > limit else "INCONCLUSIVE"
    if found.reasons:
        status = "INCONCLUSIVE"
    seen = (
        f"{ratio:.3f} times the baseline's time (95% interval {low:.3f} to {high:.3f}; medians "
        f"{found.candidate_ms:.4g} ms against {found.baseline_ms:.4g} ms, {found.sessions} sessions of blocks A B B A, "
        f"{found.runs:,} runs, {found.how}, on {device})"
    )
    open_ended = status == "INCONCLUSIVE" and not found.reasons
    needed = rows_for_width(found.sessions, ratio, high, limit) if open_ended else None
    return CheckVerdict(
        check="latency",
        name=latency_name(margin),
        status=status,
        why=f"{seen}: {_time_ending(status, found, limit, needed)}",
        candidate=found.candidate_ms,
        baseline=found.baseline_ms,
        unit="ms",
        value=ratio,
        interval=(low, high),
        limit=limit,
        limit_from=origin,
        n=found.sessions,
        needed_n=needed,
        method=METHOD,
    )


def latency_name(margin: float) -> str:
    """`latency at most 5% above the baseline's`."""
    return f"latency at most {_percent(margin)} above the baseline's"


def _time_ending(status: Status, found: Timing, limit: float, needed: int | None) -> str:
    if found.reasons:
        return f"the comparison is INVALID: {'; '.join(found.reasons)}. Check again on a quiet device"
    if status == "PASS":
        return f"at most {limit:.4g}, as required"
    if status == "FAIL":
        return f"slower than the {limit:.4g} that are allowed"
    more = f"; about {needed:,} sessions would decide it" if needed else ""
    return f"the interval reaches across {limit:.4g}{more}. --full measures longer"


def decide_size(candidate: int, baseline: int, margin: float, origin: str) -> CheckVerdict:
    """Bytes of the models' files, counted."""
    limit = baseline * (1 + margin)
    passed = candidate <= limit
    change = candidate - baseline
    seen = f"{candidate:,} bytes against {baseline:,} of the baseline ({change:+,} bytes, {change / baseline:+.2%})"
    return CheckVerdict(
        check="size",
        name=size_name(margin),
        status="PASS" if passed else "FAIL",
        why=f"{seen}: {'at most' if passed else 'more than'} the {limit:,.0f} that are allowed",
        candidate=candidate / 1e6,
        baseline=baseline / 1e6,
        unit="MB",
        value=float(candidate),
        interval=(float(candidate), float(candidate)),
        limit=limit,
        limit_from=origin,
        method="exact count",
    )


def size_name(margin: float) -> str:
    """`size at most 5% above the baseline's`."""
    return f"size at most {_percent(margin)} above the baseline's"


def not_checked(kind: Kind, name: str, why: str, limit: float | None = None, origin: str = "") -> CheckVerdict:
    """INCONCLUSIVE: what was neither done nor left out on purpose passes nothing."""
    return CheckVerdict(check=kind, name=name, status="INCONCLUSIVE", why=why, limit=limit, limit_from=origin)


def margin_not_checked(margin: Margin, why: str) -> CheckVerdict:
    """The same of a stated margin, with whoever answers for it."""
    gate = margin.gate
    account = {"owner": gate.owner or "", "justification": gate.justification or "", "unaccounted": [*gate.unaccounted]}
    return not_checked("accuracy", margin.name, why, margin.limit, margin.origin).model_copy(update=account)


def same_file(verdict: CheckVerdict, sha256: str) -> CheckVerdict:
    """PASS without a run: the same bytes, read the same way by the same runtime, cannot be worse."""
    why = f"candidate and baseline are the identical file (sha256 {sha256[:12]}), read the same way: nothing was run"
    return verdict.model_copy(update={"status": "PASS", "why": why, "method": "identical bytes", "needed_n": None})


def custom_of(margin: Margin, ours: Any, theirs: Any, rows: pa.Table) -> CustomValues | None:
    """Values of a user's own metric (`file.py:function`) on both sides' logits; None for edgeft's metrics."""
    from edgeft.pipeline.judging.gatekeeping import custom_values

    if ":" not in margin.gate.metric or "logits" not in ours:
        return None
    return custom_values(margin.gate, ours["logits"], theirs["logits"], rows)


def _percent(margin: float) -> str:
    return f"{margin * 100:.4g}%"
