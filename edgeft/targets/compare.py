"""Which of two artefacts is faster, and by how much: one process, interleaved, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from edgeft.artifact import Artifact, Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import Job, OnProgress, ignore_progress
from edgeft.device.transport import run_job, runtime_file
from edgeft.targets.measure import TIMED_TIMEOUT, model_entry, runtime_feeds

if TYPE_CHECKING:
    from edgeft.task import Arrays

RESAMPLES = 4000


@dataclass(frozen=True)
class Comparison:
    """ratio: median time of A over that of B (2 means B is twice as fast), with a 95% interval."""

    a_ms: float
    b_ms: float
    ratio: float
    interval: tuple[float, float]
    blocks: int
    runs: int
    throttled: bool


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
    """Time A and B in blocks A B B A, so that drift falls on both; bootstrap over quadruples of blocks."""
    job = Job(
        "compare",
        runtime_file(runtime),
        {"model": model_entry(a[0]), "other": model_entry(b[0])},
        {"feeds": runtime_feeds(a[1], feeds), "other_feeds": runtime_feeds(b[1], feeds)},
        {"batch": batch, "blocks": blocks, "seconds": seconds, "options": {"threads": device.threads}},
        TIMED_TIMEOUT,
    )
    data = run_job(device, job, on_progress).data
    pairs = [(median(times[0]), median(times[1])) for times in data["blocks"]]
    a_ms, b_ms = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    runs = sum(len(side) for times in data["blocks"] for side in times)
    ratio, interval = ratio_interval(pairs)
    return Comparison(a_ms, b_ms, ratio, interval, len(pairs), runs, bool(data["throttled"]))


def ratio_interval(pairs: Sequence[tuple[float, float]], confidence: float = 0.95) -> tuple[float, tuple[float, float]]:
    """(median of the pairs' ratios, percentile bootstrap over pairs, seed fixed). pairs: (ms of A, ms of B)."""
    import numpy as np

    ratios = np.array([first / second for first, second in pairs])
    draws = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.median(ratios)), (float(low), float(high))
