"""`prune: {target_latency_ms: 5}` as a step before the pruning step: export, time on the device, bisect on the ratio.

The trunk's stages know no exporter and no device, so the search stands here, above both. What it hands on is the ratio
alone: its file holds nothing else, so a second measurement that ends at the same ratio prunes nothing anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json, digest_tree
from edgeft.device.protocol import ArtefactRefused
from edgeft.errors import StepError
from edgeft.exporter import Unsupported
from edgeft.pipeline.spec import Spec
from edgeft.pipeline.steps.answers import prepared_of, read_cases, sample_feeds
from edgeft.pipeline.steps.candidates import (
    Candidate,
    device_config,
    offered_variants,
    run_host,
    run_tools,
    searched_ladder,
    worth_offering,
)
from edgeft.pipeline.steps.estimates import timing_protocol
from edgeft.pipeline.steps.measuring import LATENCY_CASES
from edgeft.pipeline.steps.serve import serve_shape
from edgeft.recipe.load import LoadedRecipe
from edgeft.record import RatioSearch, RatioTrial
from edgeft.stage import Context, Stage

FILE = "ratio.json"


def wants_ratio(stage: Stage) -> bool:
    """True where a stage's ratio is to be found by latency."""
    return getattr(stage, "target_latency_ms", None) is not None


def pick_candidates(
    stage: Any, candidates: Sequence[Candidate], loaded: LoadedRecipe, where: tuple[str | int, ...]
) -> list[Candidate]:
    """What is exported and timed: the one that `latency_candidate` names, else the target's own in order, compressed
    ones first, of which the first that can be made counts.

    RecipeError for an unknown device, for a candidate that the target does not try, and for an emulated device.
    """
    devices = list(dict.fromkeys(candidate.device.name for candidate in candidates))
    device = stage.latency_device or devices[0]
    if device not in devices:
        near = get_close_matches(device, devices, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"targets: {', '.join(devices)}"
        raise loaded.error(where, f"latency_device: no target is called '{device}'", hint)
    floats = [item for item in candidates if item.device.name == device and item.variant is None]
    here = {item.name: item for item in [*(found for plain in floats for found in _compressed(plain)), *floats]}
    chosen = list(here.values())
    if stage.latency_candidate is not None:
        if stage.latency_candidate not in here:
            near = get_close_matches(stage.latency_candidate, here, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(here)}"
            raise loaded.error(where, f"latency_candidate: {device} has no candidate '{stage.latency_candidate}'", hint)
        chosen = [here[stage.latency_candidate]]
    if not loaded.recipe.measure.times:
        raise loaded.error(
            where, "target_latency_ms needs times: measure.protocol is none",
            "measure: {protocol: quick}, or give ratio",
        )  # fmt: skip
    if not chosen[0].device.times_count or not chosen[0].runs:
        raise loaded.error(
            where, f"target_latency_ms: {device} cannot be timed by a build",
            "name a device that can be timed as latency_device, or give ratio",
        )  # fmt: skip
    return chosen


def _compressed(plain: Candidate) -> list[Candidate]:
    """What the target tries of a float candidate's exporter; where it searches, what it may try."""
    target, device = plain.target, plain.device
    offered = offered_variants(plain.exporter, target, device) or plain.exporter.ladder(device)
    if target.candidates is None:
        return [replace(plain, variant=variant) for variant in worth_offering(target, offered)]
    return [replace(plain, variant=variant) for variant in offered if variant.name in target.candidates]


def ratio_spec(name: str, stage: Any, pruning: Spec, candidates: Sequence[Candidate], loaded: LoadedRecipe) -> Spec:
    """The step `NAME/ratio`. pruning: the step it precedes, whose inputs it shares. candidates: as picked."""
    recipe, candidate = loaded.recipe, candidates[0]
    tools = [tool for item in candidates for tool in (*item.exporter.tools, *run_tools(item))]

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        search = find_ratio(stage, inputs["model"], candidates, serve_shape(recipe.serve), timing_protocol(recipe), ctx)
        (out / FILE).write_bytes(canonical_json({"ratio": search.ratio}, indent=1))
        return {"search": search.model_dump(mode="json")}

    return Spec(
        id=f"{name}/ratio",
        title=f"Find the ratio that runs in {stage.target_latency_ms:g} ms on {candidate.device.name}",
        name="prune-ratio",
        version=2,
        makes="record",
        run=run,
        config={
            **pruning.config,
            "candidates": {item.name: item.exporter.version for item in candidates},
            "order": [item.name for item in candidates],
            "device": {item.exporter.name: device_config(item, timed=True) for item in candidates},
            "serve": recipe.serve.model_dump(),
            "protocol": recipe.measure.protocol,
        },
        needs=pruning.needs,
        given=pruning.given,
        reads=tuple(dict.fromkeys([*pruning.reads, "calibration", "search"])),
        tools=tuple(dict.fromkeys([*pruning.tools, *tools])),
        host=run_host(candidate, timed=True),
        measures=True,
        seed=recipe.seed,
    )


def with_ratio(stage: Any, inputs: Mapping[str, Artifact]) -> Stage:
    """The stage at the ratio that its `ratio` step wrote."""
    found = json.loads((inputs["ratio"].path / FILE).read_text(encoding="utf-8"))
    settled: Stage = stage.at(float(found["ratio"]))
    return settled


def find_ratio(
    stage: Any, model: Artifact, candidates: Sequence[Candidate], serve: Mapping[str, int], protocol: Any, ctx: Context
) -> RatioSearch:
    """Bisect on the first candidate that the whole model can be exported as.

    Raises StepError where there is none, and where no ratio meets the budget, naming the best time seen.
    """
    from edgeft.stages.prune.bisect_ratio import OutOfReach, bisect_ratio

    most, doubtful = stage.most(model, ctx), []
    candidate, whole = _first_made(stage, model, candidates, serve, protocol, ctx)

    def measure(ratio: float) -> RatioTrial:
        ctx.progress(0, 0, "", f"ratio {ratio:g}")
        trial = _time(stage, model, ratio, candidate, serve, protocol, ctx) if ratio else whole
        if not trial.valid:
            doubtful.append(ratio)
        return trial

    budget = float(stage.target_latency_ms)
    try:
        ratio, trials = bisect_ratio(measure, budget, most)
    except OutOfReach as error:
        raise StepError(
            f"no ratio brings {candidate.name} on {candidate.device.name} to {budget:g} ms: "
            f"it takes {error.least:.2f} ms at {error.most:g}, the largest that leaves something of every layer",
            where=f"step {ctx.step}", hint="raise target_latency_ms, or drop layers first: prune: {method: depth}",
        ) from error  # fmt: skip
    if doubtful:
        shown = ", ".join(f"{item:g}" for item in doubtful)
        ctx.warn(
            f"the machine was not steady while ratios {shown} were timed: the ratio found may be another next time"
        )
    return RatioSearch(
        device=candidate.device.name, candidate=candidate.name, budget_ms=budget, ratio=ratio, trials=trials
    )


def _first_made(
    stage: Any, model: Artifact, candidates: Sequence[Candidate], serve: Mapping[str, int], protocol: Any, ctx: Context
) -> tuple[Candidate, RatioTrial]:
    """(candidate, its time with nothing removed) of the first that can be made and run."""
    reasons = []
    for candidate in candidates:
        ctx.progress(0, 0, "", candidate.name)
        try:
            return candidate, _time(stage, model, 0.0, candidate, serve, protocol, ctx)
        except Unsupported as refusal:
            reasons.append(f"{candidate.name}: {refusal.op + ': ' if refusal.op else ''}{refusal.reason}")
        except ArtefactRefused as refusal:
            reasons.append(f"{candidate.name}: {refusal.what}")
    raise StepError(
        f"nothing can be timed for target_latency_ms: {'; '.join(reasons)}",
        where=f"step {ctx.step}", hint="name another latency_candidate, or give ratio",
    )  # fmt: skip


def _time(
    stage: Any,
    model: Artifact,
    ratio: float,
    candidate: Candidate,
    serve: Mapping[str, int],
    protocol: Any,
    ctx: Context,
) -> RatioTrial:
    """Cut without healing (weights do not change the time), export, compress as the candidate says, time."""
    from edgeft.targets.measure import measure_latency

    folder = ctx.scratch / "ratio"
    shutil.rmtree(folder, ignore_errors=True)
    cut = model
    if ratio:
        pruned = _fresh(folder / "model")
        facts = stage.unhealed(ratio).run({"model": model}, pruned, ctx)
        cut = Artifact("torch-model", pruned, digest_tree(pruned), facts)
    artifact = _export(cut, candidate, serve, folder, ctx)
    exporter, device = candidate.exporter, candidate.device
    feeds = sample_feeds(ctx, "search", LATENCY_CASES)
    row, measurements = measure_latency(
        device, exporter.runtime, artifact, exporter.signature(artifact), feeds, batch=serve["batch"], protocol=protocol
    )
    p50 = next(item for item in measurements if item.metric == "latency_p50_ms")
    shutil.rmtree(folder, ignore_errors=True)
    return RatioTrial(ratio=ratio, p50_ms=float(p50.value), interval=p50.interval, runs=row.runs, valid=row.valid)


def _export(model: Artifact, candidate: Candidate, serve: Mapping[str, int], folder: Path, ctx: Context) -> Artifact:
    """The candidate's artefact of a torch model, in the step's own scratch."""
    exporter, variant = candidate.exporter, candidate.variant
    settings = dict(exporter.settings(candidate.device, serve))
    if variant is not None and exporter.compresses == "source":
        origin = model
        variant = replace(variant, options={**variant.options, "settings": settings})
    else:
        place = _fresh(folder / "float")
        facts = exporter.export(model, settings, place, ctx)
        origin = Artifact(exporter.makes, place, digest_tree(place), facts)
        if variant is not None and candidate.target.searches:
            offered = {rung.name for rung in searched_ladder(candidate, origin)}
            if variant.name not in offered:
                raise Unsupported("a search would not try it on this network")
    if variant is None:
        return origin
    calibration = None
    if variant.needs_calibration:
        calibration = ctx.task.feeds(read_cases(ctx, "calibration", None), prepared_of(ctx))
    place = _fresh(folder / "compressed")
    facts = exporter.compress(origin, variant, calibration, place, ctx)
    return Artifact(exporter.makes, place, digest_tree(place), facts)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
