"""The steps that make artefacts: float export, calibration statistics, and each compressed variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.pipeline.spec import FEED_TOOLS, Ref, Spec, split_refs
from edgeft.pipeline.steps.answers import prepared_of, read_cases
from edgeft.pipeline.steps.candidates import Candidate
from edgeft.pipeline.steps.embedded import embedding_tools, refuse_embedding
from edgeft.pipeline.steps.estimates import quarter_model, whole_model
from edgeft.pipeline.steps.serve import serve_shape
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context


def export_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """The float artefact for a device's settings."""
    exporter = candidate.exporter
    settings = dict(exporter.settings(candidate.device, serve_shape(recipe.serve)))

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


def calibrate_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """Statistics of the float artefact's activations, once for every variant that is made from them."""
    exporter = candidate.exporter
    settings = dict(exporter.settings(candidate.device, serve_shape(recipe.serve)))

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        feeds = ctx.task.feeds(read_cases(ctx, "calibration", None), prepared_of(ctx))
        return exporter.calibrate(inputs["model"], settings, feeds, out, ctx)  # type: ignore[attr-defined,no-any-return]

    origin: Ref = candidate.float_id
    config: dict[str, Any] = {}
    if exporter.compresses == "source":
        origin, config = model, {"settings": settings, "task": recipe.model.task}
    needs, given = split_refs({"model": origin, "prepared": "prepare"})
    return Spec(
        id=statistics_id(candidate),
        title=f"Calibrate for {exporter.name}",
        name=f"calibrate:{exporter.name}",
        version=exporter.version,
        makes="statistics",
        run=run,
        config=config,
        needs=needs,
        given=given,
        tools=(*FEED_TOOLS, *exporter.tools),
        host="numeric",
        reads=("calibration",),
    )


def statistics_id(candidate: Candidate) -> str:
    """Id of the step that calibrates its exporter's float artefact for this device."""
    return f"{candidate.float_id}/calibrate"


def needs_statistics(candidate: Candidate) -> bool:
    """The variant is made from statistics, and its exporter takes them once for all."""
    variant = candidate.variant
    return variant is not None and variant.needs_statistics and hasattr(candidate.exporter, "calibrate")


def compress_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """One compressed variant of the float artefact, or of the model it comes from, as the exporter wants."""
    exporter, variant = candidate.exporter, candidate.variant
    if variant is None:
        raise ValueError("the float export is no variant")
    origin: Ref = candidate.float_id
    config: dict[str, Any] = {"variant": variant.to_json()}
    if exporter.compresses == "source":
        settings = dict(exporter.settings(candidate.device, serve_shape(recipe.serve)))
        variant = replace(variant, options={**variant.options, "settings": settings})
        origin, config = model, {"variant": variant.to_json(), "task": recipe.model.task}
    refs: dict[str, Ref] = {"model": origin, "prepared": "prepare"}
    if needs_statistics(candidate):
        refs["statistics"] = statistics_id(candidate)
    numeric = variant.needs_calibration
    reads = numeric and not needs_statistics(candidate)

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        calibration: Any = inputs.get("statistics")
        if reads:
            calibration = ctx.task.feeds(read_cases(ctx, "calibration", None), prepared_of(ctx))
        return exporter.compress(inputs["model"], variant, calibration, out, ctx)

    needs, given = split_refs(refs)
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
        tools=(*FEED_TOOLS, *exporter.tools) if reads else exporter.tools,
        reads=("calibration",) if reads else (),
        host="numeric" if numeric else "any",
        estimate=quarter_model,
    )
