"""What a build would do: each step's state, why it would run, and estimates that say what they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.device.profile import Device
from edgeft.exporter import Layer
from edgeft.pipeline.checks.calibration_rows import check_calibration
from edgeft.pipeline.given.inputs import Inputs
from edgeft.pipeline.spec import Spec, material
from edgeft.pipeline.steps.branches import candidate_specs
from edgeft.pipeline.steps.candidates import Candidate, Reached, plan_candidates
from edgeft.pipeline.steps.preprocessing import preprocess_specs
from edgeft.pipeline.steps.probing import target_probe
from edgeft.pipeline.steps.serve import settle_serve
from edgeft.pipeline.steps.trunk import Trunk, plan_trunk
from edgeft.pipeline.steps.trunk_specs import source_spec
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Budget as BudgetKeys
from edgeft.recipe.schema import SearchKeys, Target
from edgeft.store import CorruptObject, Store, explain_change, step_key
from edgeft.targets.search.asking import Branch, Budget, Settings
from edgeft.targets.search.search import bound

if TYPE_CHECKING:
    from edgeft.pipeline.judging.released import Released

ANY = (Layer("", "", 0, ""),)
"""Layers are known once a float artefact exists; a plan takes it that there are some."""
PlanState = Literal["cached", "will run", "waits", "corrupt"]


@dataclass(frozen=True)
class Plan:
    """All specs of a recipe in the order they run; the gate set's steps follow the choice and are not among them."""

    loaded: LoadedRecipe
    inputs: Inputs
    trunk: Trunk
    candidates: list[Candidate]
    devices: Mapping[str, Device]
    source: Spec
    specs: list[Spec]
    preprocessing: list[Spec] = field(default_factory=list)
    """Checks of preprocessing, which run as soon as it is stated: before anything is trained."""
    released: Mapping[str, Released] = field(default_factory=dict)
    """Bundles that gates compare with, by the path they name."""


@dataclass(frozen=True)
class PlanRow:
    """One line of `edgeft plan`. seconds, memory_mb, disk_mb are estimates; basis says of what kind."""

    id: str
    title: str
    state: PlanState
    why: str
    seconds: float | None = None
    memory_mb: float | None = None
    disk_mb: float | None = None
    basis: str = ""


def make_plan(
    loaded: LoadedRecipe, inputs: Inputs, store: Store, devices: Mapping[str, Device], reached: Reached
) -> Plan:
    """Recipe and devices to specs; imports no torch. RecipeError where the parts do not fit.

    reached: what devices other than this machine said of themselves, which enters the keys of what runs there.
    """
    loaded = settle_serve(loaded, inputs)
    candidates = plan_candidates(loaded, devices, reached)
    check_calibration(loaded, candidates)
    trunk = plan_trunk(loaded, inputs, store, candidates)
    source = source_spec(loaded, trunk.source, "search", loaded.recipe.measure.search_cases)
    checks = preprocess_specs(loaded, candidates)
    specs = [*trunk.specs[:2], *checks, *trunk.specs[2:], source]
    for candidate in candidates:
        known = {spec.id for spec in specs}
        specs += [spec for spec in candidate_specs(candidate, trunk, loaded.recipe) if spec.id not in known]
    probes = [target_probe(candidates, device, loaded.recipe) for device in devices]
    specs += [probe for probe in probes if probe is not None]
    return Plan(loaded, inputs, trunk, candidates, devices, source, specs, checks)


@dataclass
class _Reader:
    """Walks the specs as the executor would, but only looks."""

    store: Store
    recipe: str
    model_bytes: int
    done: dict[str, Artifact] = field(default_factory=dict)
    dataset: Facts | None = None

    def row(self, spec: Spec) -> PlanRow:
        waits = [name for name in spec.needs.values() if name not in self.done]
        if spec.reads and self.dataset is None and spec.name != "data":
            waits = waits or ["data"]
        if waits:
            return self._pending(spec, "waits", f"waits on {waits[0]}")
        inputs = {**spec.given, **{role: self.done[name] for role, name in spec.needs.items()}}
        content = material(spec, inputs, self.dataset)
        try:
            found = self.store.find(step_key(content))
        except CorruptObject as error:
            return self._pending(spec, "corrupt", error.what)
        if found is None:
            return self._pending(spec, "will run", explain_change(self.store.latest(self.recipe, spec.id), content))
        self.done[spec.id] = self.store.artifact(found)
        if spec.id == "data":
            self.dataset = found.facts
        return PlanRow(
            spec.id,
            spec.title,
            "cached",
            f"made {found.created[:10]}",
            found.seconds,
            None,
            found.bytes / 1e6,
            "measured then",
        )

    def _pending(self, spec: Spec, state: PlanState, why: str) -> PlanRow:
        last = self.store.last_result(self.recipe, spec.id)
        if last is not None:
            return PlanRow(
                spec.id,
                spec.title,
                state,
                why,
                last.seconds,
                None,
                last.bytes / 1e6,
                "this step's last run, other inputs",
            )
        guess: Mapping[str, Any] = {}
        if spec.estimate is not None:
            rows = {name: about["n"] for name, about in self.dataset["splits"].items()} if self.dataset else {}
            guess = spec.estimate(rows, self.model_bytes)
        return PlanRow(
            spec.id,
            spec.title,
            state,
            why,
            guess.get("seconds"),
            guess.get("memory_mb"),
            guess.get("disk_mb"),
            str(guess.get("basis", "")),
        )


def plan_rows(plan: Plan, store: Store) -> list[PlanRow]:
    """The state of every step. A cached step is one whose bytes were found and still match their digest."""
    reader = _Reader(store, plan.loaded.recipe.name, int(plan.inputs.about.get("bytes", 0)))
    return [*(reader.row(spec) for spec in plan.specs), *_search_rows(plan, reader.model_bytes)]


def _search_rows(plan: Plan, model_bytes: int) -> Iterator[PlanRow]:
    """A line per search: its questions depend on the answers, so only their bound is known."""
    for target, device in zip(plan.loaded.recipe.targets, plan.devices.values(), strict=True):
        if not target.searches:
            continue
        floats = [candidate for candidate in plan.candidates if candidate.device.name == device.name]
        settings = search_settings(target, 0)
        ladders = [Branch(part.exporter.name, part.exporter.ladder(device), layers=ANY) for part in floats]
        most, names = bound(ladders, settings), ", ".join(branch.exporter for branch in ladders)
        limit = f" or {settings.budget.minutes:g} minutes" if settings.budget.minutes else ""
        yield PlanRow(
            id=f"{device.name}/search",
            title=f"Search for the best artefact on {device.name}",
            state="waits",
            why=f"at most {most} evaluations{limit} of {names}: variants, then layers in float where these fail",
            disk_mb=most * model_bytes / 4 / 1e6,
            basis="every evaluation an int8 copy of the model",
        )


def search_settings(target: Target, cases: int) -> Settings:
    """The recipe's keys for a search set of that many cases."""
    keys, budget = target.search or SearchKeys(), target.budget or BudgetKeys()
    return Settings(
        cases=cases,
        first=keys.first_cases,
        shortlist=keys.shortlist,
        budget=Budget(budget.evaluations, budget.minutes),
        curves=keys.curves,
    )


def known_dataset(plan: Plan, store: Store) -> Facts | None:
    """Facts of the data where that step is cached, so that a plan can refuse what the build would."""
    content = material(plan.trunk.specs[0], {}, None)
    try:
        found = store.find(step_key(content))
    except CorruptObject:
        return None
    return found.facts if found else None


def step_names(specs: Sequence[Spec]) -> list[str]:
    """Names `--to` accepts: the trunk's steps, then `search` (all candidates measured, gate set sealed)."""
    return [*[spec.id for spec in specs if "/" not in spec.id], "search"]
