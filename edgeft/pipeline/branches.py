"""The branches as store steps: float export, parity, each variant, its answers and its latency on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.device.profile import Device
from edgeft.exporter import Exporter, Variant
from edgeft.pipeline.answers import logits_of, prepared_of, read_cases, refuse_broken, write_outputs
from edgeft.pipeline.estimates import protocol_time, quarter_model, whole_model
from edgeft.pipeline.spec import Spec
from edgeft.pipeline.trunk import FEED_TOOLS, Ref, Trunk, split_refs
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Recipe, Target
from edgeft.stage import Context

FLOAT = "float"
PARITY_CASES = 24
LATENCY_CASES = 64


@dataclass(frozen=True)
class Candidate:
    """One artefact to try on one target; variant None is the float export."""

    target: Target
    device: Device
    exporter: Exporter
    variant: Variant | None

    @property
    def name(self) -> str:
        """`onnx/int8-dynamic`: unique within a target."""
        return f"{self.exporter.name}/{self.variant.name if self.variant else FLOAT}"

    @property
    def id(self) -> str:
        """Id of the step that makes it."""
        return f"{self.device.name}/{self.name}"


def plan_candidates(loaded: LoadedRecipe, devices: Mapping[str, Device]) -> list[Candidate]:
    """Every candidate of every target, float first. RecipeError for an unknown candidate name."""
    found = []
    for index, (target, device) in enumerate(zip(loaded.recipe.targets, devices.values(), strict=True)):
        known: list[str] = []
        for name in target.export:
            exporter: Exporter = plugins.load("exporters", name)()
            for variant in (None, *exporter.ladder(device)):
                label = variant.name if variant else FLOAT
                known.append(label)
                if target.candidates is None or label in target.candidates or variant is None:
                    found.append(Candidate(target, device, exporter, variant))
        unknown = [name for name in target.candidates or () if name not in known]
        if unknown:
            raise loaded.error(
                ("targets", index, "candidates"),
                f"no candidate is called '{unknown[0]}'",
                f"on this device there are: {', '.join(known)}",
            )
    return found


def export_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """The float artefact for a device's settings."""
    exporter, device = candidate.exporter, candidate.device
    settings = dict(exporter.settings(device, recipe.serve.model_dump()))

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
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
        tools=exporter.tools,
        host="any",
        reads=("calibration",),
        estimate=whole_model,
    )


def parity_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """Float artefact on its runtime against the torch model, on real inputs of several shapes."""

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.parity import prove_parity

        rows = read_cases(ctx, "search", PARITY_CASES)
        feeds = ctx.task.feeds(rows, prepared_of(ctx))
        artifact = inputs["artifact"]
        row = prove_parity(
            logits_of(inputs["model"], None, ctx),
            candidate.device,
            candidate.exporter.runtime,
            artifact,
            candidate.exporter.signature(artifact),
            feeds,
        )
        (out / "parity.json").write_bytes(canonical_json(row.model_dump(mode="json"), indent=1))
        return {"parity": row.model_dump(mode="json")}

    needs, given = split_refs({"model": model, "artifact": candidate.id, "prepared": "prepare"})
    return Spec(
        id=f"{candidate.id}/parity",
        title="Prove the export equal to the torch model",
        name="parity",
        version=1,
        makes="record",
        run=run,
        config={"cases": PARITY_CASES, "device": device_key(candidate.device), "task": recipe.model.task},
        needs=needs,
        given=given,
        reads=("search",),
        tools=(*FEED_TOOLS, "torch", "transformers", *runtime_tools(candidate)),
        host="numeric",
    )


def compress_spec(candidate: Candidate, model: Ref, recipe: Recipe) -> Spec:
    """One compressed variant of the float artefact, or of the model it comes from, as the exporter wants."""
    exporter, variant = candidate.exporter, candidate.variant
    if variant is None:
        raise ValueError("the float export is no variant")
    float_id = f"{candidate.device.name}/{exporter.name}/{FLOAT}"

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        calibration = None
        if variant.needs_calibration:
            calibration = ctx.task.feeds(read_cases(ctx, "calibration", None), prepared_of(ctx))
        return exporter.compress(inputs["model"], variant, calibration, out, ctx)

    config: dict[str, Any] = {"variant": variant.to_json()}
    origin: Ref = float_id
    if exporter.compresses == "source":
        settings = dict(exporter.settings(candidate.device, recipe.serve.model_dump()))
        variant = replace(variant, options={**variant.options, "settings": settings})
        config, origin = {"variant": variant.to_json(), "task": recipe.model.task}, model
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
        tools=(*FEED_TOOLS, *exporter.tools) if variant.needs_calibration else exporter.tools,
        reads=("calibration",) if variant.needs_calibration else (),
        host="numeric" if variant.needs_calibration else "any",
        estimate=quarter_model,
    )


def outputs_spec(candidate: Candidate, recipe: Recipe, split: str, cases: int | None) -> Spec:
    """The artefact's answers on its device's runtime over a split."""
    exporter, device = candidate.exporter, candidate.device

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.measure import run_outputs

        rows = read_cases(ctx, split, cases)
        feeds = ctx.task.feeds(rows, prepared_of(ctx))
        artifact = inputs["artifact"]
        outputs = run_outputs(
            device,
            exporter.runtime,
            artifact,
            exporter.signature(artifact),
            feeds,
            batch=recipe.serve.batch,
            on_progress=lambda done, total: ctx.progress(done, total, "case"),
        )
        if split == "search":
            refuse_broken(outputs)
        return write_outputs(outputs, rows, out, ctx)

    step = f"gate/{candidate.id}" if split == "gate" else f"{candidate.id}/outputs"
    return Spec(
        id=step,
        title=f"Run on {device.name} over the {split} set",
        name="outputs",
        version=1,
        makes="outputs",
        run=run,
        config={"cases": cases, "device": device_key(device), "batch": recipe.serve.batch, "task": recipe.model.task},
        needs={"artifact": candidate.id, "prepared": "prepare"},
        reads=(split,),
        tools=(*FEED_TOOLS, *runtime_tools(candidate)),
        host="numeric",
    )


def latency_spec(candidate: Candidate, recipe: Recipe) -> Spec:
    """Latency, start-up, memory and node placement on the device, at the declared serve shape."""
    exporter, device = candidate.exporter, candidate.device

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.measure import measure_latency, measure_placement

        feeds = ctx.task.feeds(read_cases(ctx, "search", LATENCY_CASES), prepared_of(ctx))
        artifact = inputs["artifact"]
        signature = exporter.signature(artifact)
        row, measurements = measure_latency(
            device,
            exporter.runtime,
            artifact,
            signature,
            feeds,
            batch=recipe.serve.batch,
            protocol=recipe.measure.protocol,
            on_progress=lambda done, total: ctx.progress(done, total, "s"),
        )
        facts = {
            "latency": row.model_dump(mode="json"),
            "measurements": [measurement.to_json() for measurement in measurements],
            "placement": dict(measure_placement(device, exporter.runtime, artifact, signature, feeds)),
        }
        (out / "latency.json").write_bytes(canonical_json(facts, indent=1))
        return facts

    config = {"protocol": recipe.measure.protocol, "device": device_key(device), "serve": recipe.serve.model_dump()}
    return Spec(
        id=f"{candidate.id}/latency",
        title=f"Measure latency on {device.name}",
        name="latency",
        version=1,
        makes="record",
        run=run,
        config=config,
        needs={"artifact": candidate.id, "prepared": "prepare"},
        reads=("search",),
        tools=(*FEED_TOOLS, *runtime_tools(candidate)),
        host="measuring",
        estimate=protocol_time(recipe.measure.protocol),
    )


def candidate_specs(candidate: Candidate, trunk: Trunk, recipe: Recipe) -> list[Spec]:
    """Every step that one candidate takes before the choice, in order."""
    specs = []
    if candidate.variant is None:
        specs += [export_spec(candidate, trunk.model, recipe), parity_spec(candidate, trunk.model, recipe)]
    else:
        specs.append(compress_spec(candidate, trunk.model, recipe))
    specs.append(outputs_spec(candidate, recipe, "search", recipe.measure.search_cases))
    if candidate.device.how == "measured":
        specs.append(latency_spec(candidate, recipe))
    return specs


def runtime_tools(candidate: Candidate) -> tuple[str, ...]:
    """Distributions of the candidate's runtime, whose versions change answers and timings."""
    tools: tuple[str, ...] = plugins.load("runtimes", candidate.exporter.runtime).DISTRIBUTIONS
    return tools


def device_key(device: Device) -> dict[str, Any]:
    """What of a device changes answers or timings."""
    return device.model_dump(mode="json", include={"name", "transport", "how", "architecture", "threads"})
