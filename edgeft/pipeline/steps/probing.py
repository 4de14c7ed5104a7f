"""What a device says of itself, and its peak rates: one step per target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.pipeline.spec import Spec
from edgeft.pipeline.steps.candidates import Candidate, device_config, run_host, run_tools
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context


def probe_spec(candidate: Candidate, runtimes: Sequence[str], recipe: Recipe) -> Spec:
    """The device's own description by each runtime, and, where times are taken, its peak rates."""
    device, timed = candidate.device, candidate.is_timed(recipe)

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.measure import describe_device
        from edgeft.targets.roofline import probe_device

        conditions: dict[str, str] = {}
        for runtime in runtimes:
            conditions |= describe_device(device, runtime)
        probe = probe_device(device).model_dump(mode="json") if timed else None
        facts: dict[str, Any] = {"conditions": conditions, "probe": probe}
        (out / "probe.json").write_bytes(canonical_json(facts, indent=1))
        return facts

    return Spec(
        id=f"{device.name}/probe",
        title=f"Ask {device.name} what it is" + (" and how fast it could be" if timed else ""),
        name="probe",
        version=1,
        makes="record",
        run=run,
        config={"runtimes": list(runtimes), "timed": timed, "device": device_config(candidate, timed=True)},
        tools=run_tools(candidate),
        host=run_host(candidate, timed=True),
        measures=True,
    )


def target_probe(candidates: Sequence[Candidate], device: str, recipe: Recipe) -> Spec | None:
    """The probe step of one target; None where it has no candidates that run."""
    own = [candidate for candidate in candidates if candidate.device.name == device and candidate.runs]
    runtimes = tuple(dict.fromkeys(candidate.exporter.runtime for candidate in own))
    return probe_spec(own[0], runtimes, recipe) if own else None
