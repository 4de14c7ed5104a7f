"""The steps that run artefacts on their device: parity, answers, latency, operators, and the device's own rates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.pipeline.spec import FEED_TOOLS, Ref, Spec, split_refs
from edgeft.pipeline.steps.answers import (
    artefact_outputs,
    known_answers,
    logits_of,
    prepared_of,
    read_cases,
    refuse_broken,
    sample_feeds,
    thin,
    write_outputs,
)
from edgeft.pipeline.steps.candidates import Candidate, device_config, run_host, run_tools
from edgeft.pipeline.steps.embedded import parity_cases, parity_rows
from edgeft.pipeline.steps.estimates import protocol_time, timing_protocol
from edgeft.pipeline.steps.windowed import window_words
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context
from edgeft.task import case_rows, declared_inputs, logits_at_once

PARITY_CASES = 24
EMULATED_PARITY_CASES = 8
LATENCY_CASES = 64
OPERATOR_RUNS = 20


def parity_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """Float artefact on its runtime against the torch model, on real inputs of several shapes."""
    cases = EMULATED_PARITY_CASES if candidate.emulated else PARITY_CASES
    cases = parity_cases(recipe.serve, cases, candidate.emulated)

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.parity import prove_parity

        artifact, few = inputs["artifact"], logits_at_once(ctx.task, prepared_of(ctx), cases)
        rows = parity_rows(read_cases(ctx, "search", few), recipe.serve, prepared_of(ctx))
        feeds = ctx.task.feeds(thin(case_rows(ctx.task, rows, prepared_of(ctx)), rows.num_rows), prepared_of(ctx))
        row = prove_parity(
            logits_of(inputs["model"], None, ctx),
            candidate.device,
            candidate.exporter.runtime,
            artifact,
            candidate.exporter.signature(artifact),
            feeds,
            declared_inputs(prepared_of(ctx)),
        )
        return _write(out, "parity", {"parity": row.model_dump(mode="json")})

    needs, given = split_refs({"model": model, "artifact": candidate.id, "prepared": "prepare"})
    return Spec(
        id=f"{candidate.id}/parity",
        title="Prove the export equal to the model",
        name="parity",
        version=1,
        makes="record",
        run=run,
        config={"cases": cases, "device": device_config(candidate), "task": recipe.model.task},
        needs=needs,
        given=given,
        reads=("search",),
        tools=(*FEED_TOOLS, "torch", "transformers", *run_tools(candidate)),
        host="numeric",
    )


def outputs_spec(
    candidate: Candidate,
    recipe: Recipe,
    split: str,
    few: int | None = None,
    planned: int | None = None,
    begun: int | None = None,
) -> Spec:
    """The artefact's answers on its device's runtime over a split; facts["n"] says over how many of its cases.

    few: that many of them, evenly spaced, for a first look. Else, under emulation, `planned`, or what the pace step
    planned; elsewhere `measure.search_cases`, or all. begun: such a look has been taken at so many; its cases are not
    run again.
    """
    most = recipe.measure.search_cases if split == "search" else None

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        rows, wanted = read_cases(ctx, split, most), few
        if few is None and "pace" in inputs:
            wanted = planned or int(inputs["pace"].facts["cases"])
        known = known_answers(inputs["begun"], rows.num_rows, wanted) if "begun" in inputs else None
        rows = thin(rows, wanted)
        artifact = inputs["artifact"]
        signature = candidate.exporter.signature(artifact)

        def answer(some: Any) -> dict[str, Any]:
            return artefact_outputs(
                candidate.device, candidate.exporter.runtime, artifact, signature, some, ctx,
                batch=recipe.serve.batch, check=refuse_broken if split == "search" else ignore,
            )  # fmt: skip

        if known is None:
            return write_outputs(answer(rows), rows, out, ctx)
        return write_outputs(known.complete(rows, answer), rows, out, ctx)

    config = {"cases": most, "device": device_config(candidate), "batch": recipe.serve.batch, "task": recipe.model.task}
    config |= {"planned": planned} if planned else {}
    needs = _needs(candidate)
    if few is not None:
        config["few"] = few
        needs.pop("pace", None)
    if begun is not None:
        needs = {**needs, "begun": f"{candidate.id}/outputs-{begun}"}
    place = f"{candidate.id}/outputs" if few is None else f"{candidate.id}/outputs-{few}"
    part = "" if few is None else f"{few} cases of "
    return Spec(
        id=f"gate/{candidate.id}" if split == "gate" else place,
        title=f"Run on {candidate.device.name} over {part}the {split} set",
        name="outputs",
        version=1,
        makes="outputs",
        run=run,
        config=config,
        needs=needs,
        reads=(split,),
        tools=(*FEED_TOOLS, *run_tools(candidate)),
        host=run_host(candidate),
    )


def ignore(outputs: Mapping[str, Any]) -> None:
    """The gate set's answers are scored as they are: what is not finite has no score, which fails closed."""


def latency_spec(candidate: Candidate, recipe: Recipe) -> Spec:
    """Latency, start-up and memory on the device, at the declared serve shape."""
    exporter, device = candidate.exporter, candidate.device

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.measure import measure_latency

        feeds = sample_feeds(ctx, "search", LATENCY_CASES)
        artifact = inputs["artifact"]
        signature = exporter.signature(artifact)
        row, measurements = measure_latency(
            device,
            exporter.runtime,
            artifact,
            signature,
            feeds,
            batch=recipe.serve.batch,
            protocol=timing_protocol(recipe),
            note=window_words(ctx.task, prepared_of(ctx)),
            on_progress=lambda done, total: ctx.progress(done, total, "s"),
        )
        facts = {
            "latency": row.model_dump(mode="json"),
            "measurements": [measurement.to_json() for measurement in measurements],
        }
        return _write(out, "latency", facts)

    config = {
        "protocol": recipe.measure.protocol,
        "device": device_config(candidate, timed=True),
        "serve": recipe.serve.model_dump(),
    }
    return Spec(
        id=f"{candidate.id}/latency",
        title=f"Measure latency on {device.name}",
        name="latency",
        version=3,
        makes="record",
        run=run,
        config=config,
        needs=_needs(candidate),
        reads=("search",),
        tools=(*FEED_TOOLS, *run_tools(candidate)),
        host=run_host(candidate, timed=True),
        measures=True,
        estimate=protocol_time(timing_protocol(recipe)),
    )


def operators_spec(candidate: Candidate, recipe: Recipe) -> Spec:
    """Where nodes ran and the time per operator, in a profiled run apart from the timed ones."""
    exporter, device = candidate.exporter, candidate.device

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.measure import measure_operators

        feeds = sample_feeds(ctx, "search", LATENCY_CASES)
        artifact = inputs["artifact"]
        ran = measure_operators(
            device,
            exporter.runtime,
            artifact,
            exporter.signature(artifact),
            feeds,
            batch=recipe.serve.batch,
            runs=OPERATOR_RUNS,
        )
        rows = [row.model_dump(mode="json") for row in ran.operators]
        return _write(out, "operators", {"placement": dict(ran.placement), "operators": rows, "why": ran.why})

    return Spec(
        id=f"{candidate.id}/operators",
        title=f"Profile operators on {device.name}",
        name="operators",
        version=2,
        makes="record",
        run=run,
        config={"runs": OPERATOR_RUNS, "device": device_config(candidate, timed=True), "batch": recipe.serve.batch},
        needs=_needs(candidate),
        reads=("search",),
        tools=(*FEED_TOOLS, *run_tools(candidate)),
        host=run_host(candidate, timed=True),
        measures=True,
    )


def _needs(candidate: Candidate) -> dict[str, str]:
    needs = {"artifact": candidate.id, "prepared": "prepare"}
    return {**needs, "pace": f"{candidate.id}/pace"} if candidate.emulated else needs


def _write(out: Path, name: str, facts: dict[str, Any]) -> Facts:
    (out / f"{name}.json").write_bytes(canonical_json(facts, indent=1))
    return facts
