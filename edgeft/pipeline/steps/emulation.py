"""How many cases an emulated device answers: as many as the recipe's minutes allow, by a timed first few."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.pipeline.spec import Spec
from edgeft.pipeline.steps.answers import prepared_of, sample_feeds
from edgeft.pipeline.steps.candidates import Candidate, device_config
from edgeft.pipeline.steps.windowed import windows_per_case
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context

PACE_CASES = 3
STEPS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384)
"""Numbers of cases that are planned: coarse, so that a machine a little slower than yesterday plans the same ones."""


STRETCH = 4
"""How many times the cases of the recipe's minutes the gate set may take, where fewer could not pass its gates."""


def gate_cases(paced: int, enough: Callable[[int], bool]) -> int:
    """Cases of the gate set: those that fit the minutes, or the first step above on which the gates could pass, and one
    step more for the cases that will be lost. What does not help within STRETCH times the minutes is not planned.
    """
    if enough(paced):
        return paced
    steps = [n for n in STEPS if paced < n <= STRETCH * paced]
    for place, n in enumerate(steps):
        if enough(n):
            return steps[min(place + 1, len(steps) - 1)]
    return paced


def planned_cases(seconds_per_case: float, minutes: float) -> int:
    """The largest step that fits the minutes, at least the smallest."""
    fitting = [n for n in STEPS if n * seconds_per_case <= minutes * 60]
    return fitting[-1] if fitting else STEPS[0]


def pace_spec(candidate: Candidate, recipe: Recipe) -> Spec:
    """Time the artefact under emulation, start-up apart, and plan its cases. The time itself is not evidence.

    Each artefact by itself: on an imitated ARM core the float MiniLM took six times as long as its int8 form.
    """

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        cases = planned_cases(_seconds_per_case(inputs["artifact"], candidate, ctx), recipe.measure.emulated_minutes)
        facts = {"cases": cases}
        (out / "pace.json").write_bytes(canonical_json(facts, indent=1))
        return facts

    return Spec(
        id=f"{candidate.id}/pace",
        title=f"Plan how many cases fit on {candidate.device.name}",
        name="pace",
        version=1,
        makes="record",
        run=run,
        config={"minutes": recipe.measure.emulated_minutes, "device": device_config(candidate)},
        needs={"artifact": candidate.id, "prepared": "prepare"},
        reads=("search",),
    )


def _seconds_per_case(artifact: Artifact, candidate: Candidate, ctx: Context) -> float:
    """Of 1 + 3 cases against 1: what each further one takes; of windows, times those of the largest volume."""
    from edgeft.targets.measure import run_outputs

    exporter = candidate.exporter
    signature = exporter.signature(artifact)
    feeds = sample_feeds(ctx, "search", PACE_CASES + 1)
    taken = []
    for cases in (1, PACE_CASES + 1):
        part = {name: array[:cases] for name, array in feeds.items()}
        began = time.monotonic()
        run_outputs(candidate.device, exporter.runtime, artifact, signature, part, batch=1)
        taken.append(time.monotonic() - began)
    return max(1e-3, (taken[1] - taken[0]) / PACE_CASES) * windows_per_case(ctx.task, prepared_of(ctx))
