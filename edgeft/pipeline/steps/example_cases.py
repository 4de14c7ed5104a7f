"""The step that gives a few cases' whole outputs, which answers do not keep: for pictures, never for a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.pipeline.spec import FEED_TOOLS, Spec
from edgeft.pipeline.steps.answers import prepared_of
from edgeft.pipeline.steps.candidates import Candidate, device_config, run_host, run_tools
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context


def example_spec(candidate: Candidate, recipe: Recipe, places: Sequence[int]) -> Spec:
    """All outputs of the rows at these places of the search set, on the candidate's device and runtime."""

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.data.table import read_split
        from edgeft.pipeline.steps.arrays import save_arrays
        from edgeft.targets.measure import run_outputs

        rows, artifact = read_split(ctx.splits["search"].path).take(list(places)), inputs["artifact"]
        outputs = run_outputs(
            candidate.device, candidate.exporter.runtime, artifact, candidate.exporter.signature(artifact),
            ctx.task.feeds(rows, prepared_of(ctx)), batch=recipe.serve.batch,
        )  # fmt: skip
        save_arrays(out / "outputs.npz", outputs)
        return {"n": rows.num_rows}

    return Spec(
        id=f"{candidate.id}/examples",
        title=f"Run the report's example cases on {candidate.device.name}",
        name="examples",
        version=1,
        makes="outputs",
        run=run,
        config={
            "places": list(places), "device": device_config(candidate), "batch": recipe.serve.batch,
            "task": recipe.model.task,
        },
        needs={"artifact": candidate.id, "prepared": "prepare"},
        reads=("search",),
        tools=(*FEED_TOOLS, *run_tools(candidate)),
        host=run_host(candidate),
    )  # fmt: skip
