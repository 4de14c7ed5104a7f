"""The trunk's parts as store steps: data, preparation, a stage, the source model's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.pipeline.checks.unlabelled import data_of
from edgeft.pipeline.given.inputs import Inputs
from edgeft.pipeline.spec import FEED_TOOLS, Ref, Spec, split_refs
from edgeft.pipeline.steps.answers import read_cases, source_outputs, write_outputs
from edgeft.pipeline.steps.ratio import with_ratio
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context, Stage
from edgeft.store import Store

DATA_VERSION = 2
PREPARE_VERSION = 1
PREDICT_VERSION = 1


def stage_spec(name: str, stage: Stage, refs: Mapping[str, Ref], seed: int, task: str) -> Spec:
    """A trunk stage as a store step; its fields with defaults are the config."""

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        settled = with_ratio(stage, inputs) if "ratio" in inputs else stage
        own = {role: artifact for role, artifact in inputs.items() if role not in ("prepared", "ratio")}
        return settled.run(own, out, ctx)

    needs, given = split_refs(refs)
    # A further model counts by its content, not by where it lies.
    config = stage.model_dump(mode="json", exclude={"id", *stage.models})
    title = (type(stage).__doc__ or stage.name).strip().splitlines()[0].rstrip(".")
    return Spec(
        id=name,
        title=title,
        name=stage.name,
        version=stage.version,
        makes=stage.makes,
        run=run,
        config={"task": task, **config},
        needs=needs,
        given=given,
        reads=stage.reads,
        columns=stage.columns,
        tools=(*FEED_TOOLS, *stage.tools) if stage.reads else stage.tools,
        host="numeric" if stage.numeric else "any",
        seed=seed,
        estimate=stage.estimate,
        together=stage.together,
    )


def foresight_spec(name: str, stage: Stage, model: Artifact, seed: int, task: str) -> Spec:
    """What a later step says of the given model, before the steps between train."""

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        facts = stage.foresee(inputs["model"], replace(ctx, step=name)) or {}
        (out / "foreseen.json").write_bytes(canonical_json(facts, indent=1))
        return facts

    return Spec(
        id=f"{name}/foreseen",
        title=f"Look ahead: can {name} do what it is asked?",
        name=f"{stage.name}/foreseen",
        version=stage.version,
        makes="record",
        run=run,
        config={"task": task, **stage.model_dump(mode="json", exclude={"id", *stage.models})},
        given={"model": model},
        reads=("train",),
        tools=stage.tools,
        seed=seed,
    )


def data_spec(loaded: LoadedRecipe, inputs: Inputs, store: Store, *, trains: bool, validates: bool) -> Spec:
    """Read, check and divide the rows. The key holds content fingerprints, not paths."""
    recipe = loaded.recipe
    from edgeft.data.patients import default_group
    from edgeft.data.source import source_for

    columns = kept_columns(recipe)
    data = recipe.data.model_copy(update={"group": default_group(recipe.data)})
    data = data_of(data, plugins.load("tasks", recipe.model.task)())
    medical = recipe.preprocess.medical if recipe.preprocess else None

    def run(_: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.data.build import build_dataset

        return build_dataset(
            data,
            recipe.seed,
            ctx.task,
            out,
            model_labels=inputs.labels,
            trains=trains,
            validates=validates,
            by=columns,
            medical=medical,
            warn=ctx.warn,
            progress=ctx.progress,
        )

    source = source_for(data)
    config = data.model_dump(mode="json", exclude={"path", "paths", "licence", "codes"})
    config |= {
        "content": source.fingerprint(data, store.file_digest),
        "model_labels": list(inputs.labels) if inputs.labels else None,
        "trains": trains,
        "validates": validates,
        "task": recipe.model.task,
    }
    config |= {"by": columns} if columns else {}
    if source.decodes and medical is not None:  # slices are windowed later, volumes at once
        config |= {"grid": medical if source.whole else {name: medical[name] for name in ("orientation", "spacing")}}
    return Spec(
        id="data",
        title=f"Read {recipe.data.source}, check and split five ways",
        name="data",
        version=DATA_VERSION,
        makes="dataset",
        run=run,
        config=config,
        seed=recipe.seed,
        tools=("pyarrow", *source.tools),
    )


def kept_columns(recipe: Recipe) -> list[str]:
    """Columns of the data by which gates divide and count the cases and steps choose their rows, each once."""
    by_gates = {column for gate in recipe.gates for column in gate.columns}
    return sorted(by_gates.union(*(stage.columns for stage in recipe.steps)))


def prepare_spec(loaded: LoadedRecipe, inputs: Inputs) -> Spec:
    """Freeze preprocessing: the files that turn raw input into feeds, in training and on the device alike."""
    recipe = loaded.recipe
    serve = recipe.serve.model_dump()
    if recipe.preprocess is not None and recipe.preprocess.medical is not None:
        serve["medical"] = recipe.preprocess.medical
        if recipe.data.expect is not None and recipe.data.expect.takes:
            serve["takes"] = recipe.data.expect.takes

    def run(given: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        splits = {name: split.path for name, split in ctx.splits.items()}
        return ctx.task.prepare(given["tokenizer"].path, splits, ctx.labels, serve, out)

    return Spec(
        id="prepare",
        title="Freeze the preprocessing",
        name="prepare",
        version=PREPARE_VERSION,
        makes="prepared",
        run=run,
        config={"serve": serve, "task": recipe.model.task},
        needs={"data": "data"},
        given={"tokenizer": inputs.tokenizer},
        reads=("train", "validation", "calibration", "search", "gate"),
        tools=("tokenizers", "transformers"),
    )


def source_spec(loaded: LoadedRecipe, source: Mapping[str, Ref], split: str, cases: int | None) -> Spec:
    """The source model's answers on a split: what every candidate is compared with."""
    needs, given = split_refs({**source, "prepared": "prepare"})

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        rows = read_cases(ctx, split, cases)
        outputs = source_outputs(inputs, rows, ctx)
        return write_outputs(outputs, rows, out, ctx)

    return Spec(
        id=f"source/{split}",
        title=f"Answers of the source model on the {split} set",
        name="source",
        version=PREDICT_VERSION,
        makes="outputs",
        run=run,
        config={"cases": cases, "task": loaded.recipe.model.task},
        needs=needs,
        given=given,
        reads=(split,),
        tools=(*FEED_TOOLS, "torch", "transformers", "peft", "bitsandbytes", "onnxruntime"),
        host="numeric",
        seed=loaded.recipe.seed,
    )
