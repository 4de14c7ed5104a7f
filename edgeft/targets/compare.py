"""Which of two artefacts is faster, and by how much: interleaved blocks A B B A, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import Job, OnProgress, ignore_progress
from edgeft.device.timing import SLOWER, own_speed
from edgeft.device.transport import run_job, runtime_file
from edgeft.targets.answers import Compared, Timed, check
from edgeft.targets.artifact_jobs import (
    TIMED_TIMEOUT,
    make_job,
    model_entry,
    runtime_feeds,
    runtime_options,
    served_batch,
)
from edgeft.targets.latency import valid_samples

if TYPE_CHECKING:
    from edgeft.task import Arrays

RESAMPLES = 4000
LEAST_RUNS, MOST_WARMUP = 3, 2.0
"""Of one block in a fresh process: runs, and seconds of warm-up. Blocks are short, and each begins cold."""
Times = Sequence[Sequence[float]]
"""[milliseconds of A, milliseconds of B] of one quadruple A B B A."""


@dataclass(frozen=True)
class Side:
    """One of the two: what runs, in which runtime, on which canonical feeds (n, ...)."""

    runtime: str
    artifact: Artifact
    signature: Signature
    feeds: Arrays


@dataclass(frozen=True)
class Comparison:
    """ratio: median time of A over that of B (2 means B is twice as fast), with a 95% interval.

    blocks: quadruples A B B A that count. sessions: fresh processes the interval is over; 0: it is over quadruples.
    discarded: quadruples or sessions in which the core was slow. reasons: why the comparison is INVALID, empty where it
    is VALID. how: one process, or fresh ones.
    """

    a_ms: float
    b_ms: float
    ratio: float
    interval: tuple[float, float]
    blocks: int
    runs: int
    discarded: int = 0
    reasons: tuple[str, ...] = ()
    how: str = "one process"
    sessions: int = 0


def compare_latency(
    device: Device,
    runtime: str,
    a: tuple[Artifact, Signature],
    b: tuple[Artifact, Signature],
    feeds: Arrays,
    *,
    batch: int = 1,
    blocks: int = 16,
    seconds: float = 10.0,
    on_progress: OnProgress = ignore_progress,
) -> Comparison:
    """Two artefacts of one runtime on the same feeds; see `compare_sides`."""
    sides = Side(runtime, *a, feeds), Side(runtime, *b, feeds)
    return compare_sides(device, *sides, batch=batch, blocks=blocks, seconds=seconds, on_progress=on_progress)


def compare_sides(
    device: Device,
    a: Side,
    b: Side,
    *,
    batch: int = 1,
    blocks: int = 16,
    seconds: float = 10.0,
    on_progress: OnProgress = ignore_progress,
) -> Comparison:
    """Time A and B in blocks A B B A, so that drift falls on both; bootstrap over quadruples of blocks.

    Both in one process where the runtime is the same. Two runtimes in one process would fight over cores and memory:
    there every block is a fresh process, which loads and warms up before its clock starts. seconds: of all timed
    blocks. DeviceError on an emulated device.
    """
    same = a.runtime == b.runtime
    measure = _in_one_process if same else _in_fresh_processes
    valid, void = measure(device, a, b, batch, blocks, seconds, on_progress)
    reasons = []
    if len(valid) < blocks:
        reasons.append(f"only {len(valid)} of {blocks} quadruples of blocks were timed with the core at its speed")
    used = valid or void
    pairs = [(median(times[0]), median(times[1])) for times in used]
    ratio, interval = ratio_interval(pairs)
    return Comparison(
        a_ms=median(pair[0] for pair in pairs),
        b_ms=median(pair[1] for pair in pairs),
        ratio=ratio,
        interval=interval,
        blocks=len(used),
        runs=sum(len(side) for times in used for side in times),
        discarded=len(void),
        reasons=tuple(reasons),
        how="one process" if same else "a fresh process a block, since the runtimes differ",
    )


def _in_one_process(
    device: Device, a: Side, b: Side, batch: int, blocks: int, seconds: float, on_progress: OnProgress
) -> tuple[list[Times], list[Times]]:
    job = Job(
        "compare",
        runtime_file(a.runtime),
        {"model": model_entry(a.artifact), "other": model_entry(b.artifact)},
        {"feeds": runtime_feeds(a.signature, a.feeds), "other_feeds": runtime_feeds(b.signature, b.feeds)},
        {
            "batch": served_batch(a.signature, batch), "blocks": blocks, "seconds": seconds,
            "options": runtime_options(device), "affinity": list(device.affinity),
        },
        TIMED_TIMEOUT,
    )  # fmt: skip
    found = check(Compared, run_job(device, job, on_progress).data)
    return list(found.blocks), list(found.void)


def _in_fresh_processes(
    device: Device, a: Side, b: Side, batch: int, blocks: int, seconds: float, on_progress: OnProgress
) -> tuple[list[Times], list[Times]]:
    """A quadruple with a process whose median sentinel is over 10% slower than the core's own speed is void."""
    jobs = [_block_job(device, side, batch, seconds / (4 * blocks)) for side in (a, b)]
    quadruples: list[list[list[float]]] = []
    speeds: list[list[float]] = []
    while True:
        times: list[list[float]] = [[], []]
        speeds.append([])
        for which in (0, 1, 1, 0):
            timed = check(Timed, run_job(device, jobs[which]).data).model_dump()
            times[which] += valid_samples(timed) or [value for block in timed["blocks"] for value in block["ms"]]
            speeds[-1].append(median(timed["sentinel_ms"]))
        quadruples.append(times)
        own = own_speed([value for four in speeds for value in four])
        void = [max(four) > SLOWER * own for four in speeds]
        on_progress(min(blocks, void.count(False)), blocks)
        if void.count(False) >= blocks or void.count(True) >= blocks:
            break
    valid = [times for times, bad in zip(quadruples, void, strict=True) if not bad]
    dropped = [times for times, bad in zip(quadruples, void, strict=True) if bad]
    return list(valid), list(dropped)


def _block_job(device: Device, side: Side, batch: int, seconds: float) -> Job:
    settings: dict[str, Any] = {
        "batch": served_batch(side.signature, batch), "runs": LEAST_RUNS, "seconds": seconds,
        "most_warmup": MOST_WARMUP,
    }  # fmt: skip
    feeds = {"feeds": runtime_feeds(side.signature, side.feeds)}
    return make_job(device, "latency", side.runtime, side.artifact, settings, feeds)


def ratio_interval(pairs: Sequence[tuple[float, float]], confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """(median of the pairs' ratios, percentile bootstrap over pairs, seed fixed). pairs: (ms of A, ms of B)."""
    import numpy as np

    ratios = np.array([first / second for first, second in pairs])
    draws = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.median(ratios)), (float(low), float(high))
