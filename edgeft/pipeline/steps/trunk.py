"""The trunk: the model's way through the recipe's stages, and what gates compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgeft import plugins
from edgeft.artifact import Kind
from edgeft.pipeline.given.adapted_layers import keeps_names
from edgeft.pipeline.given.inputs import Inputs
from edgeft.pipeline.given.model_folder import answers_already
from edgeft.pipeline.spec import Ref, Spec
from edgeft.pipeline.steps.candidates import Candidate
from edgeft.pipeline.steps.ratio import pick_candidates, ratio_spec, wants_ratio
from edgeft.pipeline.steps.rule import check_rule, rule_spec
from edgeft.pipeline.steps.trunk_specs import data_spec, foresight_spec, prepare_spec, stage_spec
from edgeft.pipeline.steps.zeroed import settle_zeros
from edgeft.recipe.load import LoadedRecipe
from edgeft.stage import Stage
from edgeft.store import Store


@dataclass
class Trunk:
    """The trunk's specs; model: what the branches export; source: role -> what gates compare with."""

    specs: list[Spec]
    model: Ref
    source: dict[str, Ref]
    trains: bool
    stages: list[tuple[str, Stage]] = field(default_factory=list)


def plan_trunk(loaded: LoadedRecipe, inputs: Inputs, store: Store, candidates: Sequence[Candidate] = ()) -> Trunk:
    """Specs of everything up to the branches. RecipeError where a stage does not fit what comes before it.

    candidates: what the branches will try; a pruning step that meets a latency budget times one of them. Without
    any, only the steps before that one can be run.
    """
    recipe = loaded.recipe
    trains = any("train" in stage.reads for stage in recipe.steps)
    validates = inputs.adapter is not None or any("validation" in stage.reads for stage in recipe.steps)
    specs = [data_spec(loaded, inputs, store, trains=trains, validates=validates), prepare_spec(loaded, inputs)]
    walk = _Walk(loaded, inputs, candidates)
    for index, stage in enumerate(recipe.steps):
        walk.add(stage, ("steps", index))
    walk.finish()
    check_rule(loaded)
    rule = [rule_spec(loaded)] if recipe.baseline else []
    return Trunk(specs + walk.foreseen + rule + walk.specs, walk.current, walk.source, trains, walk.stages)


class _Walk:
    """Follows the model through the stages: its kind, the base under an adapter, and the source."""

    def __init__(self, loaded: LoadedRecipe, inputs: Inputs, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.loaded, self.specs, self.stages = loaded, [], []  # type: ignore[var-annotated]
        self.foreseen: list[Spec] = []
        self.given = inputs.model
        self.others = inputs.others
        self.answers = answers_already(inputs, loaded.recipe.model.task)
        # Set by the first step that makes a fine-tuned model smaller: what is trained after it has to stand comparison
        # with the model before it, else pruning would be compared with itself.
        self.pinned = False
        self.zeros = False
        self.current: Ref = inputs.adapter or inputs.model
        self.kind: str = self.current.kind
        self.base: Ref = inputs.model
        self.source: dict[str, Ref] = (
            {"base": inputs.model, "adapter": inputs.adapter} if inputs.adapter else {"model": inputs.model}
        )

    def add(self, stage: Stage, where: tuple[str | int, ...]) -> None:
        accepted = stage.takes["model"]
        if self.kind == "peft-adapter" and "peft-adapter" not in accepted:
            self._merge()
        if self.kind not in accepted:
            raise self.loaded.error(
                where,
                f"{stage.name} takes {' or '.join(accepted)}, but at this point the model is {_words(self.kind)}",
                "an ONNX file cannot be trained: give the model it was exported from, or leave `steps` empty"
                if self.kind == "onnx"
                else "remove this step, or put it after one that makes what it takes",
            )
        self._append(stage, where)

    def finish(self) -> None:
        """An adapter at the end is merged: branches export whole models."""
        if self.kind == "peft-adapter":
            self._merge()

    def _merge(self) -> None:
        """One that the recipe does not write: `merge`, and behind a second adapter merge-NAME of it."""
        merge: type[Stage] = plugins.load("stages", "merge")
        taken = any(name == merge.name for name, _ in self.stages)
        self._append(merge(id=f"merge-{self.current}") if taken else merge(), ("steps",))

    def _append(self, stage: Stage, where: tuple[str | int, ...]) -> None:
        stage, self.zeros = settle_zeros(stage, self.zeros, self.loaded, where)
        name = stage.id or stage.name
        if any(name == other for other, _ in self.stages):
            raise self.loaded.error(
                where, f"two steps are called {name}", "give one of them an id: {" + stage.name + ": {id: second}}"
            )
        refs: dict[str, Ref] = {"model": self.current, "prepared": "prepare"}
        if "base" in stage.takes:
            refs["base"] = self.base
        if "teacher" in stage.takes:
            refs |= self._teacher(stage, where)
        index = where[1] if len(where) > 1 else None
        refs |= {role: self.others[index, role] for role in stage.models if (index, role) in self.others}
        recipe = self.loaded.recipe
        spec = stage_spec(name, stage, refs, recipe.seed, recipe.model.task)
        if wants_ratio(stage) and self.candidates:
            timed = pick_candidates(stage, self.candidates, self.loaded, where)
            self.specs.append(ratio_spec(name, stage, spec, timed, self.loaded))
            spec = replace(spec, needs={**spec.needs, "ratio": f"{name}/ratio"})
        if type(stage).foresee is not Stage.foresee and self._is_worth_foreseeing():
            self.foreseen.append(foresight_spec(name, stage, self.given, recipe.seed, recipe.model.task))
        self.specs.append(spec)
        self.stages.append((name, stage))
        self.pinned = self.pinned or (stage.keeps_source and self.answers)
        if stage.makes == "peft-adapter":
            self.base = self.current
        if not self.pinned and stage.name == "finetune":
            adapts = stage.makes == "peft-adapter"
            self.source = {"base": self.current, "adapter": name} if adapts else {"model": name}
        self.answers = self.answers or stage.trains
        self.current, self.kind = name, stage.makes
        if self.kind != "peft-adapter":
            self.base = name

    def _is_worth_foreseeing(self) -> bool:
        """Behind training that would be lost, while the given model's layers still have their names."""
        before = [stage for _, stage in self.stages]
        return any(stage.trains for stage in before) and all(keeps_names(stage) for stage in before)

    def _teacher(self, stage: Stage, where: tuple[str | int, ...]) -> dict[str, Ref]:
        """The fine-tuned model, unmerged: what gates compare with is also what a student learns from."""
        if not self.answers:
            raise self.loaded.error(
                where,
                f"{stage.name} needs a fine-tuned teacher, and nothing is fine-tuned at this point",
                "put a finetune step before it, or give a model that is fine-tuned already",
            )
        if "adapter" in self.source:
            return {"teacher": self.source["base"], "teacher_adapter": self.source["adapter"]}
        return {"teacher": self.source["model"]}


def _words(kind: Kind | str) -> str:
    return {"onnx": "an ONNX file", "peft-adapter": "an adapter", "torch-model": "a torch model"}.get(kind, kind)
