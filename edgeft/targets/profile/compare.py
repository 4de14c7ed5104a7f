"""Several models on one device, each against the first: times interleaved, outputs on the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeft import __version__
from edgeft.artifact import Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import OnProgress, ignore_progress
from edgeft.targets.compare import Comparison, Side, compare_sides
from edgeft.targets.measure import describe_device
from edgeft.targets.profile.differences import measure_differences, translate_feeds
from edgeft.targets.profile.inputs import Feeds
from edgeft.targets.profile.model import Model, inspect_model, require_runtime
from edgeft.targets.profile.record import CompareRecord, ComparisonRow
from edgeft.targets.profile.run import Ask, describe_model, now, refuse_times
from edgeft.targets.sessions import PLANS as SESSIONS
from edgeft.targets.sessions import time_in_sessions


@dataclass(frozen=True)
class Plan:
    """Quadruples A B B A, and seconds of all their blocks."""

    blocks: int
    seconds: float


PLANS: dict[str, Plan] = {"quick": Plan(12, 10.0), "full": Plan(32, 60.0)}
"""Where the runtimes differ. Twelve pairs give the median ratio a percentile bootstrap that is not a few numbers."""


def compare_models(
    device: Device, models: Sequence[Model], ask: Ask, on_progress: OnProgress = ignore_progress
) -> CompareRecord:
    """Each further model against the first. Inputs are made for the first and given to all.

    RecipeError where the models take different inputs, DeviceError where its times would not count.
    """
    refuse_times(device)
    for model in models:
        require_runtime(device, model.runtime)
    signatures = [inspect_model(device, model) for model in models]
    feeds = ask.feeds(signatures[0])
    started = now()
    rows = [
        compare_pair(device, (models[0], signatures[0]), other, feeds, ask.protocol, on_progress)
        for other in zip(models[1:], signatures[1:], strict=True)
    ]
    return CompareRecord(
        edgeft=__version__,
        started=started,
        device=device.name,
        threads=device.threads,
        batch=feeds.batch,
        inputs=feeds.said,
        models=[describe_model(model, signature, {}) for model, signature in zip(models, signatures, strict=True)],
        comparisons=rows,
        conditions=describe_device(device, models[0].runtime),
    )


def compare_pair(
    device: Device,
    first: tuple[Model, Signature],
    second: tuple[Model, Signature],
    feeds: Feeds,
    protocol: Literal["quick", "full"],
    on_progress: OnProgress = ignore_progress,
) -> ComparisonRow:
    """`second` against `first`: outputs, then times. feeds: made for `first`."""
    (a, ours), (b, theirs) = first, second
    sides = (
        Side(a.runtime, a.artifact, ours, feeds.arrays),
        Side(b.runtime, b.artifact, theirs, translate_feeds(feeds.arrays, ours, theirs)),
    )
    outputs, why = measure_differences(device, *sides, feeds.batch)
    found = _times(device, sides, feeds.batch, protocol, on_progress)
    return ComparisonRow(
        a=a.label,
        b=b.label,
        a_ms=found.a_ms,
        b_ms=found.b_ms,
        ratio=found.ratio,
        interval=found.interval,
        blocks=found.blocks,
        sessions=found.sessions,
        discarded=found.discarded,
        runs=found.runs,
        valid=not found.reasons,
        reasons=list(found.reasons),
        how=found.how,
        a_bytes=a.bytes,
        b_bytes=b.bytes,
        outputs=outputs,
        why_no_outputs=why,
    )


def _times(
    device: Device, sides: tuple[Side, Side], batch: int, protocol: Literal["quick", "full"], on_progress: OnProgress
) -> Comparison:
    """Blocks of one process agree with each other more than with those of the next process, so that of one runtime the
    process is the unit; of two, every block has one of its own."""
    first, second = sides
    if first.runtime != second.runtime:
        plan = PLANS[protocol]
        return compare_sides(
            device, first, second, batch=batch, blocks=plan.blocks, seconds=plan.seconds, on_progress=on_progress
        )
    taken = SESSIONS[protocol]
    found = time_in_sessions(device, first, second, batch, taken, on_progress)
    low, high = found.interval
    return Comparison(
        a_ms=found.baseline_ms, b_ms=found.candidate_ms, ratio=1 / found.ratio, interval=(1 / high, 1 / low),
        blocks=found.sessions * taken.blocks, runs=found.runs, discarded=found.void,
        reasons=found.reasons, how="one process a session", sessions=found.sessions,
    )  # fmt: skip
