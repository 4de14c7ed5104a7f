"""The steps that make artefacts: float export, and each compressed variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.pipeline.answers import prepared_of, read_cases
from edgeft.pipeline.candidates import Candidate
from edgeft.pipeline.embedded import embedding_tools, refuse_embedding
from edgeft.pipeline.estimates import quarter_model, whole_model
from edgeft.pipeline.spec import Spec
from edgeft.pipeline.trunk import FEED_TOOLS, Ref, split_refs
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context


def export_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """The float artefact for a device's settings."""
    exporter = candidate.exporter
    settings = dict(exporter.settings(candidate.device, recipe.serve.model_dump()))

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        refuse_embedding(exporter, recipe.serve)
        return exporter.export(inputs["model"], settings, out, ctx)

    needs, given = split_refs({"model": model, "prepared": "prepare"})
    return Spec(
        id=candidate.id,
        title=f"Export to {exporter.name}",
        name=f"export:{exporter.name}",
        version=exporter.version,
        makes=exporter.makes,
        run=run,
        config={"settings": settings, "task": recipe.model.task},
        needs=needs,
        given=given,
        tools=(*exporter.tools, *embedding_tools(recipe.serve)),
        host="any",
        reads=("calibration",),
        estimate=whole_model,
    )


def compress_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """One compressed variant of the float artefact, or of the model it comes from, as the exporter wants."""
    exporter, variant = candidate.exporter, candidate.variant
    if variant is None:
        raise ValueError("the float export is no variant")
    origin: Ref = candidate.float_id
    config: dict[str, Any] = {"variant": variant.to_json()}
    if exporter.compresses == "source":
        settings = dict(exporter.settings(candidate.device, recipe.serve.model_dump()))
        variant = replace(variant, options={**variant.options, "settings": settings})
        origin, config = model, {"variant": variant.to_json(), "task": recipe.model.task}
    calibrates = variant.needs_calibration

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        calibration = None
        if calibrates:
            calibration = ctx.task.feeds(read_cases(ctx, "calibration", None), prepared_of(ctx))
        return exporter.compress(inputs["model"], variant, calibration, out, ctx)

    needs, given = split_refs({"model": origin, "prepared": "prepare"})
    return Spec(
        id=candidate.id,
        title=f"Compress: {variant.name}",
        name=f"compress:{exporter.name}",
        version=exporter.version,
        makes=exporter.makes,
        run=run,
        config=config,
        needs=needs,
        given=given,
        tools=(*FEED_TOOLS, *exporter.tools) if calibrates else exporter.tools,
        reads=("calibration",) if calibrates else (),
        host="numeric" if calibrates else "any",
        estimate=quarter_model,
    )
