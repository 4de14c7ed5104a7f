"""Whether a candidate is likely to pass the gates, judged by its answers on the search set alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from edgeft.artifact import Artifact
from edgeft.data.table import by_column, column_array
from edgeft.evaluate.subgroups import Cases, split_cases
from edgeft.gate import Gate
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.released import baseline_id
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.plan import Plan
from edgeft.targets.choose import Miss
from edgeft.targets.measure import artifact_bytes
from edgeft.task import Score

HOPELESS = -inf
"""Slack of what no layer in float can help: it breaks a limit on time, memory or size."""


@dataclass(frozen=True)
class Likely:
    """slack: the least, over the gates, of the chance to pass less the chance asked; negative: it is not taken.

    chance: the least chance, None without a gate on data. share: the least part it is of a lossless candidate's.
    why: the gate that speaks against it, empty if none does; metric: of that gate.
    """

    slack: float
    chance: float | None
    why: str
    metric: str = ""
    share: float = 1.0

    @property
    def miss(self) -> Miss | None:
        """What speaks against choosing it."""
        return Miss(self.metric, self.why, -self.slack) if self.why else None


def judge_likely(plan: Plan, executor: Executor, trial: Trial, asked: float) -> Likely:
    """Every blocking gate of the target. asked: the share of a lossless candidate's chance that is wanted.

    A search set too small to show more than, say, 0.7 for a candidate that loses nothing asks 0.7 times `asked`: else
    nothing at all could be taken.
    """
    from edgeft.pipeline.judging.gatekeeping import gates_for

    slack, least, why, metric, share = inf, None, "", "", 1.0
    for gate in gates_for(plan.loaded.recipe.gates, trial.candidate.device.name):
        if gate.severity != "block":
            continue
        if not gate.needs_gate_set:
            if text := _over(gate, trial):
                return Likely(HOPELESS, least, text, gate.metric)
            continue
        for part, chance, best in _chances(plan, executor, trial, gate):
            least = chance if least is None else min(least, chance)
            share = min(share, chance / best) if best else share
            if chance - asked * best < slack:
                slack, metric = chance - asked * best, gate.metric
                seen = f" in {gate.by} '{part}'" if part else _seen(gate, trial)
                why = f"'{gate.describe()}': chance to pass {chance:.2f}, asked {asked * best:.2f}{seen}"
    return Likely(slack, least, why, metric, share) if slack < 0 else Likely(slack, least, "", share=share)


def losing_miss(gates: Sequence[Gate], ours: Score | None, baselines: Mapping[str | None, Score]) -> Miss | None:
    """The first blocking gate on cases that lose too much whose share is above its limit on the search set.

    ours: the candidate's score there; baselines: `Trial.baselines`. A user's own metric is computed on the gate set
    alone.
    """
    import numpy as np

    from edgeft.evaluate.quantities import quantity_for
    from edgeft.evaluate.statistics import Undecidable

    if ours is None:
        return None
    units = np.arange(len(ours.correct)).astype(str)
    for gate in gates:
        known = gate.severity == "block" and gate.cases_losing is not None and ":" not in gate.metric
        theirs = baselines.get(gate.released)
        if not known or gate.at_most is None or theirs is None:
            continue
        try:
            share = quantity_for(gate, ours, theirs, units, None, None).value
        except Undecidable as error:
            return Miss(gate.metric, f"'{gate.describe()}' on the search set: {error}", inf)
        if share > gate.at_most:
            reason = f"{share:.1%} of the search cases lose more than {gate.cases_losing:g} of {gate.subject}"
            return Miss(gate.metric, f"{reason}, the gate allows {gate.at_most:.1%}", share - gate.at_most)
    return None


def _chances(plan: Plan, executor: Executor, trial: Trial, gate: Gate) -> list[tuple[str, float, float]]:
    """(subgroup, chance of the candidate, chance of the source in its place on the same cases), the whole first.

    Subgroups that the search set or the gate set has not got are left out: there is nothing to judge by.
    """
    from edgeft.evaluate.chance import chance_to_pass
    from edgeft.pipeline.judging.scoring import answered_rows

    if trial.outputs is None or trial.score is None or trial.source is None:
        return [("", 0.0, 0.0)]
    rows = answered_rows(executor, "search", plan.loaded.recipe.measure.search_cases, trial.outputs)
    pair = [_cases(plan, executor, trial, trial.outputs, gate, rows, own=own) for own in (True, False)]
    plain, found = gate.model_copy(update={"by": None}), []
    for part, index, share in _parts(executor, gate, rows):
        count = max(1, round(share * _gate_rows(executor, trial)))
        chances = [
            chance_to_pass(plain, it.artefact, it.source, it.units, count, truth=it.truth, custom=it.custom)
            for it in (cases if index is None else cases.take(index) for cases in pair)
        ]
        found.append((part, chances[0], chances[1]))
    return found


def _cases(
    plan: Plan, executor: Executor, trial: Trial, outputs: Artifact, gate: Gate, rows: Any, *, own: bool
) -> Cases:
    """What the gate would be decided on, of the candidate (own) or of the source in its place."""
    from edgeft.pipeline.judging.gatekeeping import custom_values, gate_units
    from edgeft.pipeline.judging.scoring import baseline_arrays, source_arrays
    from edgeft.pipeline.steps.arrays import load_arrays

    score = trial.score if own else trial.source
    if score is None:
        raise ValueError("the candidate was not scored")
    custom = None
    if ":" in gate.metric:
        theirs = baseline_arrays(executor, baseline_id(gate, plan.released, "search"), outputs)
        ours = load_arrays(outputs.path / "outputs.npz") if own else source_arrays(executor, "search", outputs)
        custom = custom_values(gate, ours["logits"], theirs["logits"], rows)
    return Cases(score, trial.baselines[gate.released], gate_units(gate, rows), column_array(rows, "label"), custom)


def _parts(executor: Executor, gate: Gate, rows: Any) -> list[tuple[str, Any, float]]:
    """(subgroup, its places among the search rows or None for all, its share of the gate set's rows)."""
    if gate.by is None or executor.dataset is None:
        return [("", None, 1.0)]
    about = executor.dataset.facts["splits"]["gate"]
    held, names = about.get("by", {}).get(gate.by, {}), column_array(rows, by_column(gate.by))
    parts = [(name, index, held[name]["n"] / about["n"]) for name, index in split_cases(names) if name in held]
    return [("", None, 1.0), *parts]


def _gate_rows(executor: Executor, trial: Trial) -> int:
    """Cases the gate set will answer; their number is no secret, only their content is sealed."""
    rows = int(executor.dataset.facts["splits"]["gate"]["n"]) if executor.dataset else 1
    pace = executor.done.get(f"{trial.candidate.id}/pace")
    return min(rows, int(pace.facts["cases"])) if pace is not None else rows


def _seen(gate: Gate, trial: Trial) -> str:
    other = trial.baselines.get(gate.released)
    if trial.score is None or other is None or gate.metric != "accuracy":
        return ""
    from edgeft.evaluate.flips import flips

    found = flips(other, trial.score)
    return f" ({found['lost']} lost and {found['gained']} gained of {len(trial.score.correct)} search cases)"


def _over(gate: Gate, trial: Trial) -> str:
    """Why a limit on what the artefact costs is broken by what was measured; empty where it is not."""
    if gate.at_most is None:
        return ""
    value = next((item.value for item in trial.measurements if item.metric == gate.metric), None)
    if value is None and gate.metric == "artifact_mb" and trial.artifact is not None:
        value = artifact_bytes(trial.artifact) / 1e6
    if value is None or value <= gate.at_most:
        return ""
    return f"'{gate.describe()}': it is {value:.4g}"
