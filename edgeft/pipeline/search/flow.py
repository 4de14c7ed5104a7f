"""Search the targets that ask for it: the questions go to the oracle, the answers into the record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from edgeft.device.profile import Device
from edgeft.exporter import Variant
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.likely import judge_likely
from edgeft.pipeline.judging.trial import Trial, new_trial, try_one
from edgeft.pipeline.plan import Plan, search_settings
from edgeft.pipeline.search.oracle import Oracle
from edgeft.pipeline.search.rows import search_row
from edgeft.recipe.schema import SearchKeys, Target
from edgeft.record import SearchRow
from edgeft.targets.search.asking import Branch, Evaluation
from edgeft.targets.search.search import Search


def search_targets(plan: Plan, executor: Executor, trials: dict[str, list[Trial]]) -> dict[str, SearchRow]:
    """Target -> its search; what was tried in full is added to `trials`, behind the float exports."""
    rows = {}
    for target, device in zip(plan.loaded.recipe.targets, plan.devices.values(), strict=True):
        if target.searches:
            rows[device.name] = _search(plan, executor, target, device, trials[device.name])
    return rows


def _search(plan: Plan, executor: Executor, target: Target, device: Device, trials: list[Trial]) -> SearchRow:
    keys = target.search or SearchKeys()
    floats = {trial.candidate.exporter.name: trial for trial in trials if trial.row.status == "eligible"}
    oracle = Oracle(plan, executor, floats, keys.chance)
    cases = int(executor.done["source/search"].facts["n"])
    search = Search(_branches(oracle, keys.repairs), search_settings(target, cases))
    while (ask := search.ask()) is not None:
        executor.events.note(
            f"{device.name}/search", f"{len(search.evaluations) + 1}: {ask.purpose} {ask.variant.name}"
        )
        search.tell(oracle.answer(ask))
    if not search.evaluations:
        search.stopped = _nothing_to_ask(oracle, trials)
    best = search.best
    if best is not None:
        _try_best(plan, executor, oracle, best)
    trials += oracle.trials.values()
    return search_row(search, oracle, target, keys.chance)


def _nothing_to_ask(oracle: Oracle, trials: Sequence[Trial]) -> str:
    """Why a search had no question at all. trials: of the float exports."""
    failed = [f"{trial.row.name}: {trial.row.why}" for trial in trials if trial.row.status != "eligible"]
    return "; ".join([*failed, *oracle.bare.values()])


def _try_best(plan: Plan, executor: Executor, oracle: Oracle, best: Evaluation) -> None:
    """What the search proposes, in full where only its answers are known: its time is measured before the choice."""
    candidate = oracle.candidate(best.ask.exporter, best.ask.variant)
    known = oracle.trials.get(candidate.name)
    if known is not None and (known.row.latency is not None or not candidate.is_timed(plan.loaded.recipe)):
        return
    trial = oracle.trials[candidate.name] = new_trial(candidate)
    try_one(plan, executor, trial)
    if trial.row.status == "eligible":
        trial.unlikely = judge_likely(plan, executor, trial, oracle.chance).miss


def _no_repairs(variant: Variant) -> tuple[Variant, ...]:
    return ()


def _branches(oracle: Oracle, repairs: bool) -> list[Branch]:
    return [
        Branch(
            exporter=name,
            ladder=oracle.ladder(name),
            float_cost=oracle.cost(trial),
            layers=oracle.layers(name),
            repairs=partial(oracle.repairs, name) if repairs else _no_repairs,
        )
        for name, trial in oracle.floats.items()
    ]
