"""The choice of every target: one candidate, fixed before the gate set is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeft.device.profile import Device
from edgeft.gate import Gate
from edgeft.pipeline.checks.by_hand import knowable
from edgeft.pipeline.judging.gatekeeping import gates_for
from edgeft.pipeline.judging.rungs import AGAIN, next_rung
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.plan import Plan
from edgeft.recipe.schema import Recipe, Target
from edgeft.targets.choose import choose


@dataclass
class Chosen:
    """By target: the trial chosen, and why, or why none is. undecided: targets without a choice because times are
    INVALID."""

    chosen: dict[str, Trial] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    undecided: set[str] = field(default_factory=set)


def choose_artefacts(plan: Plan, trials: Mapping[str, Sequence[Trial]]) -> Chosen:
    """One trial of each target, or none; the rows of all get their status and the reason."""
    recipe, found = plan.loaded.recipe, Chosen()
    for target, (name, device) in zip(recipe.targets, plan.devices.items(), strict=True):
        _choose_one(recipe, target, device, trials[name], found, name)
    return found


def _choose_one(
    recipe: Recipe, target: Target, device: Device, trials: Sequence[Trial], found: Chosen, name: str
) -> None:
    from edgeft.pipeline.judging.likely import losing_miss

    gates: list[Gate] = knowable(gates_for(recipe.gates, name), device)
    misses = {item.row.name: item.unlikely or losing_miss(gates, item.score, item.baselines) for item in trials}
    choice = choose(
        [trial.row for trial in trials],
        target.optimise,
        gates,
        {item.row.name: of.metrics for item in trials if (of := item.baselines.get(None)) is not None},
        {name: miss for name, miss in misses.items() if miss is not None},
        {item.row.name: {path: of.metrics for path, of in item.baselines.items() if path} for item in trials},
    )
    for trial, row in zip(trials, choice.rows, strict=True):
        trial.row = row
    if choice.undecided:
        found.undecided.add(name)
    rung = AGAIN if choice.undecided else next_rung(recipe, target, choice.missed)
    found.reasons[name] = "; ".join(filter(None, [choice.why, rung]))
    if choice.chosen is not None:
        found.chosen[name] = next(trial for trial in trials if trial.row.name == choice.chosen)
