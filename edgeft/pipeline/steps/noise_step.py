"""The step that compares every layer of a compressed artefact with the float one, on a few search cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.pipeline.spec import FEED_TOOLS, Spec
from edgeft.pipeline.steps.answers import prepared_of, read_cases, thin
from edgeft.pipeline.steps.candidates import Candidate
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context
from edgeft.targets.search.asking import Noise
from edgeft.task import case_rows


def noise_spec(candidate: Candidate, recipe: Recipe, cases: int) -> Spec:
    """Layer -> noise over signal, range, histogram. It runs here, whatever the device: outputs of layers do not travel.

    facts: {"layers": {name: Noise as JSON}}; an infinite ratio is null.
    """
    exporter = candidate.exporter
    most = recipe.measure.search_cases

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.search.sensitivity import measure_noise

        rows = thin(read_cases(ctx, "search", most), cases)
        rows = thin(case_rows(ctx.task, rows, prepared_of(ctx)), cases)
        feeds = ctx.task.feeds(rows, prepared_of(ctx))
        gone = set(inputs["artifact"].facts.get("rewritten", ()))  # layers that became others have no output to compare
        layers = exporter.layers(inputs["float"])  # type: ignore[attr-defined]
        names = tuple(layer.name for layer in layers if layer.name not in gone)
        plain, compressed = (
            exporter.tensors(inputs[role], names, feeds)  # type: ignore[attr-defined]
            for role in ("float", "artifact")
        )
        found = {name: _plain(noise) for name, noise in measure_noise(plain, compressed, names).items()}
        facts = {"layers": found, "cases": cases}
        (out / "noise.json").write_bytes(canonical_json(facts, indent=1))
        return facts

    return Spec(
        id=f"{candidate.id}/layers",
        title=f"Compare the layers of {candidate.name} with the float artefact's",
        name=f"layers:{exporter.name}",
        version=1,
        makes="record",
        run=run,
        config={"cases": most, "few": cases},
        needs={"float": candidate.float_id, "artifact": candidate.id, "prepared": "prepare"},
        reads=("search",),
        tools=(*FEED_TOOLS, *exporter.tools),
        host="numeric",
    )


def read_noise(facts: Facts) -> dict[str, Noise]:
    """The step's facts as Noise, without costs."""
    found = {}
    for name, row in facts["layers"].items():
        ratio = float("inf") if row["ratio"] is None else float(row["ratio"])
        found[name] = Noise(ratio, low=row["low"], high=row["high"], counts=tuple(row["counts"]))
    return found


def _plain(noise: Noise) -> dict[str, object]:
    row = asdict(noise)
    row.pop("cost")
    return {**row, "ratio": None if noise.ratio == float("inf") else noise.ratio, "counts": list(noise.counts)}
