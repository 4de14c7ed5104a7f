"""The recipe's `baseline:` as steps: a rule fitted on the train split, and its answers to another split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.pipeline.spec import Spec
from edgeft.pipeline.steps.answers import prepared_of, read_cases, write_outputs
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.problems import did_you_mean
from edgeft.stage import Context
from edgeft.tasks.rules import RULES

FITTED = "baseline"
RULE_VERSION = 1


def check_rule(loaded: LoadedRecipe) -> None:
    """RecipeError where the rule does not fit the task, or nothing gives it rows to be fitted on."""
    recipe = loaded.recipe
    if recipe.baseline is None:
        return
    task = recipe.model.task
    if task not in RULES[recipe.baseline].tasks:
        known = [name for name, rule in RULES.items() if task in rule.tasks]
        what = f"{recipe.baseline} is no rule for {task}"
        raise loaded.error(("baseline",), what, did_you_mean(recipe.baseline, known, "rules for it"))
    if not any("train" in stage.reads for stage in recipe.steps):
        what = "nothing trains, so there is no train split that a rule could be fitted on"
        raise loaded.error(("baseline",), what, "leave baseline out, or add a step that trains")


def rule_spec(loaded: LoadedRecipe) -> Spec:
    """Fit the rule on the train split: all of its rows, whatever `only` a step has."""
    name = loaded.recipe.baseline or ""

    def run(_: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        facts = RULES[name].fit(read_cases(ctx, "train", None), ctx.labels, prepared_of(ctx))
        (out / "baseline.json").write_bytes(canonical_json(facts, indent=1))
        return facts

    return Spec(
        id=FITTED, title=f"Fit a rule without a network: {name}", name="baseline", version=RULE_VERSION, makes="record",
        run=run, config={"rule": name, "task": loaded.recipe.model.task}, needs={"prepared": "prepare"},
        reads=("train",), tools=("numpy", "pillow"),
    )  # fmt: skip


def rule_answers_spec(loaded: LoadedRecipe, split: str) -> Spec:
    """Its answers to every case of a split."""
    name = loaded.recipe.baseline or ""

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        rows = read_cases(ctx, split, None)
        return write_outputs(
            RULES[name].answer(inputs["rule"].facts, rows, ctx.labels, prepared_of(ctx)), rows, out, ctx
        )

    return Spec(
        id=f"{FITTED}/{split}", title=f"Answers of that rule on the {split} set", name="baseline-answers",
        version=RULE_VERSION, makes="outputs", run=run, config={"rule": name, "task": loaded.recipe.model.task},
        needs={"rule": FITTED, "prepared": "prepare"}, reads=(split,), tools=("numpy", "pillow"),
    )  # fmt: skip
