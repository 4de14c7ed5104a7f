"""Two sides timed in several sessions, each a fresh process: what differs between processes must be in the interval.

Within one process the ratio of two copies of a model is steady to a tenth of a percent, and off by several times that:
where their memory happened to lie stays the same for all its blocks. So the process is the unit, and blocks A B B A are
what it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean, median, stdev

from edgeft.device.profile import Device
from edgeft.device.protocol import OnProgress
from edgeft.targets.compare import Comparison, Side, compare_sides


@dataclass(frozen=True)
class Plan:
    """Sessions, quadruples A B B A in each, and seconds of all their blocks together."""

    sessions: int
    blocks: int
    seconds: float


PLANS: dict[str, Plan] = {"quick": Plan(6, 4, 12.0), "full": Plan(16, 4, 64.0)}


@dataclass(frozen=True)
class Timing:
    """ratio: the candidate's time over the baseline's, with a 95% interval over sessions. reasons: of INVALID. void:
    sessions in which the core was slow, taken again."""

    baseline_ms: float
    candidate_ms: float
    ratio: float
    interval: tuple[float, float]
    sessions: int
    runs: int
    how: str
    reasons: tuple[str, ...] = ()
    void: int = 0


def time_in_sessions(
    device: Device, baseline: Side, candidate: Side, batch: int, plan: Plan, on_progress: OnProgress
) -> Timing:
    """Sessions in which the core was slow are taken again, as many as were asked at most.

    Which side is loaded first alternates, so that what this does to either falls on both.
    """
    valid: list[tuple[float, float, float]] = []
    void: list[tuple[float, float, float]] = []
    runs, how = 0, ""
    while len(valid) < plan.sessions and len(void) < plan.sessions:
        turned = (len(valid) + len(void)) % 2 == 1
        sides = (candidate, baseline) if turned else (baseline, candidate)
        found = compare_sides(device, *sides, batch=batch, blocks=plan.blocks, seconds=plan.seconds / plan.sessions)
        (void if found.reasons else valid).append(_of_session(found, turned=turned))
        runs, how = runs + found.runs, found.how
        on_progress(len(valid), plan.sessions)
    used = valid if len(valid) > 1 else void
    short = f"the core kept its speed in only {len(valid)} of {plan.sessions} sessions"
    ratio, interval = interval_over([row[2] for row in used])
    return Timing(
        baseline_ms=median(row[0] for row in used),
        candidate_ms=median(row[1] for row in used),
        ratio=ratio,
        interval=interval,
        sessions=len(used),
        runs=runs,
        how=how,
        reasons=() if len(valid) >= plan.sessions else (short,),
        void=len(void),
    )


def _of_session(found: Comparison, *, turned: bool) -> tuple[float, float, float]:
    """(baseline's ms, candidate's ms, candidate's time over the baseline's)."""
    return (found.b_ms, found.a_ms, found.ratio) if turned else (found.a_ms, found.b_ms, 1 / found.ratio)


def interval_over(ratios: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """(geometric mean, 95% interval by Student's t of the logarithms), one session a value; at least two."""
    from scipy.special import stdtrit

    logs = [log(value) for value in ratios]
    middle, n = fmean(logs), len(logs)
    half = float(stdtrit(n - 1, 0.975)) * stdev(logs) / sqrt(n)
    return exp(middle), (exp(middle - half), exp(middle + half))
