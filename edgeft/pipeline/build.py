"""The flow of a build: trunk, candidates, choice, gate set, verdicts; whatever happens, a record comes back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeft import plugins
from edgeft.canonical import Facts
from edgeft.errors import EdgeftError, Exit, RecipeError, worst
from edgeft.pipeline import lock
from edgeft.pipeline.checks import gate_sizes, preflight
from edgeft.pipeline.checks.by_hand import left_notes
from edgeft.pipeline.checks.gate_names import name_gates
from edgeft.pipeline.checks.only_rows import check_only
from edgeft.pipeline.checks.reach import reach
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.given.inputs import resolve_inputs
from edgeft.pipeline.golden.steps import golden_spec
from edgeft.pipeline.host import threads
from edgeft.pipeline.judging.choosing import choose_artefacts
from edgeft.pipeline.judging.differences import compare_targets
from edgeft.pipeline.judging.examples import draw_chosen
from edgeft.pipeline.judging.floors import add_floors
from edgeft.pipeline.judging.gatekeeping import Judgement, judge
from edgeft.pipeline.judging.released import (
    OpenBundle,
    check_all_labels,
    check_all_tokens,
    open_released,
    released_spec,
)
from edgeft.pipeline.judging.scoring import score_outputs
from edgeft.pipeline.judging.trial import Trial, try_candidates
from edgeft.pipeline.leftovers import clear_leftovers
from edgeft.pipeline.offline import go_offline
from edgeft.pipeline.plan import Plan, make_plan, plan_rows, step_names
from edgeft.pipeline.progress import Events
from edgeft.pipeline.search.flow import search_targets
from edgeft.pipeline.steps.preprocessing import check_preprocessing
from edgeft.pipeline.steps.probing import target_probe
from edgeft.recipe.load import LoadedRecipe
from edgeft.record import DifferenceRow, ExampleRow, PreprocessRow, ProbeRow, SearchRow
from edgeft.store import Store
from edgeft.task import Score, Task


@dataclass(frozen=True)
class Options:
    """How to build, besides the recipe. out: the folder that holds `<recipe name>/`. wait_device: seconds to wait for
    a unit that another process holds."""

    out: Path = Path("out")
    to: str | None = None
    start: Path | None = None
    locked: bool = False
    offline: bool = False
    remeasure: bool = False
    wait_device: float = 0.0
    open_bundle: OpenBundle | None = None
    """How a released bundle that gates name is opened."""


@dataclass
class Build:
    """The state of a build as far as it came; `edgeft.pipeline.recorder` turns it into a RunRecord.

    held: the leases on its devices, until the steps have run. about: target -> what its probe step found.
    differences: target -> its artefacts' answers against another target's. searches: target -> its search.
    examples: target -> cases of its chosen artefact as pictures. undecided: targets without a choice because times are
    INVALID.
    """

    loaded: LoadedRecipe
    plan: Plan
    executor: Executor
    options: Options
    locked: lock.Locked | None = None
    source: Score | None = None
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    chosen: dict[str, Trial] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    undecided: set[str] = field(default_factory=set)
    judgement: Judgement = field(default_factory=Judgement)
    about: dict[str, Facts] = field(default_factory=dict)
    preprocessing: list[PreprocessRow] = field(default_factory=list)
    differences: dict[str, list[DifferenceRow]] = field(default_factory=dict)
    searches: dict[str, SearchRow] = field(default_factory=dict)
    examples: dict[str, list[ExampleRow]] = field(default_factory=dict)
    error: EdgeftError | None = None
    failed_step: str = ""
    interrupted: bool = False
    stopped: bool = False
    held: ExitStack = field(default_factory=ExitStack)

    @property
    def folder(self) -> Path:
        """Where the outcome goes."""
        return self.options.out / self.loaded.recipe.name


def prepare_build(loaded: LoadedRecipe, store: Store, options: Options, events: Events) -> Build:
    """Everything that can be refused without running a step. Raises EdgeftError; writes nothing, but clears away what a
    killed build left beside its outcome."""
    if options.offline:
        go_offline()
    task: Task = plugins.load("tasks", loaded.recipe.model.task)()
    devices = preflight.load_devices(loaded)
    loaded = name_gates(loaded, devices)
    preflight.check_recipe(loaded, devices, task)
    preflight.check_out(options.out / loaded.recipe.name)
    inputs = resolve_inputs(loaded, store, offline=options.offline)
    for text in inputs.about.get("notes", ()):
        events.note("model", text)
    for text in left_notes(loaded, devices):
        events.note("device", text)
    released = open_released(loaded, options.open_bundle, inputs.labels)
    with ExitStack() as held:
        fleet = held.enter_context(
            reach(loaded, devices, store, options.wait_device, lambda text: events.note("device", text))
        )
        plan = replace(make_plan(loaded, inputs, store, fleet.devices, fleet.facts), released=released)
        build = _assemble(plan, store, task, options, events)
        build.held = held.pop_all()
    return build


def _assemble(plan: Plan, store: Store, task: Task, options: Options, events: Events) -> Build:
    """The rest of what can be refused: pins, names on the command line, disk."""
    loaded = plan.loaded
    folder = options.out / loaded.recipe.name
    with suppress(OSError):  # a disk that refuses is told where the outcome is written
        clear_leftovers(folder)
    locked = lock.read(folder / lock.FILE, plan) if options.locked else None
    if options.to is not None and options.to not in step_names(plan.specs):
        raise RecipeError(
            f"no step is called '{options.to}'", where="--to", hint=f"steps: {', '.join(step_names(plan.specs))}"
        )
    preflight.check_disk(plan_rows(plan, store), store, str(store.root))
    pins: Mapping[str, str] = {}
    if options.start is not None:
        pins = store.import_from(options.start)[0]
    executor = Executor(
        store, loaded.recipe.name, loaded.recipe.seed, task, events, threads(), options.offline, options.remeasure, pins
    )
    return Build(loaded, plan, executor, options, locked)


def run_build(build: Build) -> Build:
    """Run the steps. Errors and interrupts are kept in the Build, so that a report can say how far it came."""
    try:
        with build.held:
            _flow(build)
    except EdgeftError as error:
        build.error = error
        build.failed_step = build.executor.current
    except KeyboardInterrupt:
        build.interrupted = True
    return build


def _flow(build: Build) -> None:
    plan, executor, options = build.plan, build.executor, build.options
    recipe = plan.loaded.recipe
    for spec in plan.trunk.specs:
        artifact = executor.perform(spec)
        if spec.id == "data":
            gate_sizes.check_gate_set(plan.loaded, artifact.facts)
            check_only(plan.loaded, artifact.facts)
            check_all_labels(plan.loaded, plan.released, artifact.facts["labels"])
        if spec.id == options.to:
            build.stopped = True
            return
        if spec.id == "prepare":
            check_all_tokens(plan.loaded, plan.released, executor.task, artifact.path)
            check_preprocessing(executor, plan.preprocessing, build.preprocessing)
    outputs = executor.perform(plan.source)
    for bundle in plan.released.values():
        executor.perform(released_spec(plan.loaded, bundle, "search"))
    build.source = score_outputs(executor, outputs, "search", recipe.measure.search_cases)
    if build.locked is not None:
        plan.candidates[:] = lock.restrict(plan.candidates, build.locked)
    build.trials = try_candidates(plan, executor)
    if build.locked is None:
        build.searches = search_targets(plan, executor, build.trials)
    build.differences = compare_targets(executor, build.trials, recipe)
    _probe(build)
    if build.locked is None:
        choice = choose_artefacts(plan, build.trials)
        build.chosen, build.reasons, build.undecided = choice.chosen, choice.reasons, choice.undecided
    else:
        build.chosen = lock.apply(build.trials, build.locked)
        build.reasons = dict.fromkeys(build.chosen, "pinned by choice.lock")
    build.examples = {name: draw_chosen(executor, trial, recipe) for name, trial in build.chosen.items()}
    if options.to == "search":
        build.stopped = True
        return
    if set(build.chosen) == set(build.trials):
        build.judgement = judge(plan, executor, build.chosen)
        _keep_golden(build)


def _keep_golden(build: Build) -> None:
    """What will ship gets its golden cases; a refused artefact needs none."""
    dataset = build.executor.dataset
    if dataset is None or outcome(build)[0] != "passed":
        return
    for trial in build.chosen.values():
        build.executor.perform(golden_spec(trial.candidate, build.loaded.recipe, dataset.facts["splits"]))


def _probe(build: Build) -> None:
    """Describe each target, and set every timed candidate against the floor of its device."""
    for name, device in build.plan.devices.items():
        spec = target_probe(build.plan.candidates, name, build.loaded.recipe)
        if spec is None:
            continue
        facts = build.about[name] = build.executor.perform(spec).facts
        if facts["probe"] is not None:
            row = ProbeRow.model_validate(facts["probe"])
            add_floors(build.executor, device, build.trials[name], row, build.loaded.recipe.serve.batch)


def outcome(build: Build) -> tuple[str, Exit]:
    """(status word, exit code) of a build."""
    from edgeft.evaluate.gates import overall

    if build.interrupted:
        return "interrupted", Exit.INTERRUPTED
    if build.error is not None:
        return "error", build.error.exit_code
    if build.stopped:
        return "stopped", Exit.OK
    if without := set(build.trials) - set(build.chosen):
        known = without - build.undecided
        return ("failed", Exit.GATE_FAILED) if known else ("inconclusive", Exit.INCONCLUSIVE)
    # Each target by itself: one without a verdict is inconclusive, whatever the others say.
    codes = [overall(build.judgement.verdicts.get(device, []))[1] for device in build.plan.devices]
    code = worst(*codes) if codes else Exit.INCONCLUSIVE
    return {Exit.OK: "passed", Exit.GATE_FAILED: "failed", Exit.INCONCLUSIVE: "inconclusive"}[code], code
