"""From the choice to the verdicts: one candidate per target meets the sealed gate set, once, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from edgeft.artifact import Artifact
from edgeft.data.table import by_column, column_array
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.flips import flips
from edgeft.evaluate.gates import decide_data_gate, decide_resource_gate
from edgeft.gate import Gate, Verdict
from edgeft.metric_names import LATENCY_METRICS
from edgeft.pipeline.checks.by_hand import not_run
from edgeft.pipeline.checks.gate_sizes import Held, can_pass, check_planned
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.released import baseline_id, released_spec
from edgeft.pipeline.judging.scoring import (
    answered_rows,
    baseline_arrays,
    baseline_score,
    score_both,
    split_rows,
    with_gated,
)
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.plan import Plan
from edgeft.pipeline.spec import Spec
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.pipeline.steps.emulation import gate_cases
from edgeft.pipeline.steps.measuring import outputs_spec
from edgeft.pipeline.steps.rule import FITTED, rule_answers_spec
from edgeft.pipeline.steps.trunk_specs import source_spec
from edgeft.record import GateSetRow, OpeningRow
from edgeft.task import Score, SeveralTask

TIMED_METRICS = LATENCY_METRICS - {"cold_load_ms", "first_inference_ms"}
"""What the timed blocks give: these carry the protocol's VALID or INVALID."""


@dataclass
class Judgement:
    """Verdicts per target, the gate-set row of each, and the opening if there was one."""

    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    rows: dict[str, GateSetRow] = field(default_factory=dict)
    opening: OpeningRow | None = None


def gates_for(gates: tuple[Gate, ...], device: str) -> list[Gate]:
    """The gates that hold on a target."""
    return [gate for gate in gates if gate.device in (None, device)]


def judge(plan: Plan, executor: Executor, chosen: Mapping[str, Trial]) -> Judgement:
    """Decide what needs no gate set first; open it only when nothing has failed already.

    A blocking FAIL before the opening leaves the gate set sealed: its verdicts are INCONCLUSIVE and say so. So are all
    but those on sizes where nothing is run.
    """
    recipe = plan.loaded.recipe
    result = Judgement()
    for device, trial in chosen.items():
        by_name = {measurement.metric: measurement for measurement in trial.measurements}
        result.verdicts[device] = [
            _doubt(decide_resource_gate(gate, device, by_name.get(gate.metric)), trial)
            for gate in gates_for(recipe.gates, device)
            if not gate.needs_gate_set and (trial.candidate.runs or gate.metric in by_name)
        ]
        if not trial.candidate.runs:
            others = [gate for gate in gates_for(recipe.gates, device) if gate.metric not in by_name]
            result.verdicts[device] += [not_run(gate, device) for gate in others]
    chosen = {device: trial for device, trial in chosen.items() if trial.candidate.runs}
    sealed = {device: [gate for gate in gates_for(recipe.gates, device) if gate.needs_gate_set] for device in chosen}
    if not any(sealed.values()):
        return result
    failed = [
        verdict
        for row in result.verdicts.values()
        for verdict in row
        if verdict.status == "FAIL" and verdict.severity == "block"
    ]
    if failed:
        why = f"the gate set stays sealed: {failed[0].gate} failed on {failed[0].target} without it"
        for device, gates in sealed.items():
            result.verdicts[device] += [gate.answer(device, "INCONCLUSIVE", why) for gate in gates]
        return result
    _rehearse(executor, sealed, recipe.measure.search_cases)
    _open(plan, executor, chosen, sealed, result)
    return result


def _doubt(verdict: Verdict, trial: Trial) -> Verdict:
    """Other work and throttling only ever slow an artefact down: an INVALID time may pass a limit, never fail one."""
    latency = trial.row.latency
    if verdict.metric not in TIMED_METRICS or verdict.status != "FAIL" or latency is None or latency.valid:
        return verdict
    why = f"{verdict.why}, but the measurement is INVALID: {'; '.join(latency.reasons)}"
    return replace(verdict, status="INCONCLUSIVE", why=f"{why}. Measure again on a quiet device: --remeasure")


def _rehearse(executor: Executor, sealed: Mapping[str, list[Gate]], cases: int | None) -> None:
    """Call the user's own metrics on the search set first: one that raises (StepError) must not cost an opening."""
    from edgeft.tasks.custom_metric import load_metric

    own = {gate.metric for gates in sealed.values() for gate in gates if ":" in gate.metric}
    if own:
        rows = split_rows(executor, "search", cases)
        logits = load_arrays(executor.done["source/search"].path / "outputs.npz")["logits"]
        for spec in sorted(own):
            load_metric(spec)(logits, column_array(rows, "label"), rows)


def _open(
    plan: Plan, executor: Executor, chosen: Mapping[str, Trial], sealed: Mapping[str, list[Gate]], result: Judgement
) -> None:
    recipe = plan.loaded.recipe
    source_step = source_spec(plan.loaded, plan.trunk.source, "gate", None)
    planned = _plan_cases(plan, executor, chosen, sealed)
    specs = {
        device: outputs_spec(trial.candidate, recipe, "gate", planned=planned.get(device))
        for device, trial in chosen.items()
    }
    rule = [rule_answers_spec(plan.loaded, "gate")] if recipe.baseline else []
    used = {gate.released for gates in sealed.values() for gate in gates}
    released = [released_spec(plan.loaded, item, "gate") for path, item in plan.released.items() if path in used]
    result.opening = _count_opening(plan, executor, chosen, [source_step, *rule, *released, *specs.values()])
    for step in (source_step, *rule, *released):
        executor.perform(step)
    for device, spec in specs.items():
        _meet(plan, executor, device, executor.perform(spec), sealed[device], rule, result)


def _meet(
    plan: Plan, executor: Executor, device: str, outputs: Artifact, gates: Sequence[Gate], rule: Sequence[Spec],
    result: Judgement,
) -> None:  # fmt: skip
    """One target's answers on the gate set: its row and its verdicts. Each side is scored once, for all gates."""
    rows = answered_rows(executor, "gate", None, outputs)
    units = column_array(rows, "unit")
    score, source = score_both(executor, outputs, "gate", rows, gates)
    result.rows[device] = GateSetRow(
        n=rows.num_rows,
        units=len(set(units.tolist())),
        source=dict(with_gated(source, source, rows, gates).metrics),
        artefact=dict(with_gated(score, source, rows, gates).metrics),
        flips=dict(flips(source, score)),
        confusion=score.confusion.tolist(),
        thresholds={f"{point.label} at the source's {point.words}": at for point, at in score.thresholds.items()},
        **_rule_figures(executor, rule, rows, outputs, source, gates),
    )
    baselines = {"source/gate": source}
    for gate in gates:
        step = baseline_id(gate, plan.released, "gate")
        if step not in baselines:
            same = [other for other in gates if other.released == gate.released]
            baselines[step] = baseline_score(executor, step, rows, outputs, same)
        pair = score, baselines[step]
        result.verdicts[device].append(_decide(gate, device, executor, pair, step, outputs, rows))


def _rule_figures(
    executor: Executor, rule: Sequence[Spec], rows: Any, outputs: Artifact, source: Score, gates: Sequence[Gate]
) -> dict[str, Any]:
    """What the recipe's rule without a network reaches on the very same cases; nothing where it names none."""
    if not rule:
        return {}
    score = baseline_score(executor, rule[0].id, rows, outputs)
    return {
        "rule": str(executor.done[FITTED].facts["says"]),
        "by_rule": dict(with_gated(score, source, rows, gates).metrics),
    }


def _plan_cases(
    plan: Plan, executor: Executor, chosen: Mapping[str, Trial], sealed: Mapping[str, list[Gate]]
) -> dict[str, int]:
    """Emulated target -> how many cases of the gate set it answers, where gates need more than fit the minutes.

    RecipeError, before the gate set is opened, where even several times the minutes could not show what is asked.
    """
    found = {}
    for device, trial in chosen.items():
        if not trial.candidate.emulated or not sealed[device]:
            continue
        gates = sealed[device]
        paced = int(executor.done[f"{trial.candidate.id}/pace"].facts["cases"])
        cases = gate_cases(paced, lambda n, gates=gates: can_pass(gates, _held(executor, n)[1]))  # type: ignore[misc]
        check_planned(plan.loaded, gates, device, *_held(executor, cases))
        if cases != paced:
            minutes = plan.loaded.recipe.measure.emulated_minutes * cases / paced
            executor.events.note(
                device, f"its gates need {cases} cases: about {minutes:.0f} minutes, more than planned"
            )
            found[device] = cases
    return found


def _held(executor: Executor, cases: int) -> tuple[int, Held]:
    """(rows, what they hold) of the gate set thinned to `cases`."""
    rows = split_rows(executor, "gate", cases)
    labels = executor.dataset.facts["labels"] if executor.dataset else ()
    return rows.num_rows, Held.of_rows(rows, labels, isinstance(executor.task, SeveralTask))


def _decide(
    gate: Gate, device: str, executor: Executor, pair: tuple[Score, Score], baseline: str, outputs: Artifact, rows: Any
) -> Verdict:
    """pair: of the artefact, and of what the gate compares with; baseline: the step that answered for that."""
    custom, units = None, gate_units(gate, rows)
    if ":" in gate.metric:
        ours = load_arrays(outputs.path / "outputs.npz")["logits"]
        custom = custom_values(gate, ours, baseline_arrays(executor, baseline, outputs)["logits"], rows)
    groups = column_array(rows, by_column(gate.by)) if gate.by else None
    truth = column_array(rows, "label")
    return decide_data_gate(gate, device, *pair, units, truth=truth, custom=custom, groups=groups)


def gate_units(gate: Gate, rows: Any) -> Any:
    """(n,) what the gate counts each case as: of its own `unit`, else of the data's."""
    if gate.unit is None:
        return column_array(rows, "unit")
    return column_array(rows, "id" if gate.unit == "row" else by_column(gate.unit))


def custom_values(gate: Gate, ours: Any, theirs: Any, rows: Any) -> CustomValues:
    """The user's metric as values per case where it gives them, else as a function of resampled rows."""
    import numpy as np

    from edgeft.tasks.custom_metric import load_metric

    metric: Callable[..., Any] = load_metric(gate.metric)
    labels = column_array(rows, "label")
    taken: list[Any] = [None, None]  # of the last index: both sides are asked the same, and rows cost most of it

    def take(index: Any) -> Any:
        if taken[0] is not index:
            taken[:] = index, rows.take(index)
        return taken[1]

    def on(logits: Any) -> Any:
        whole = metric(logits, labels, rows)
        if np.ndim(whole) > 0:
            return np.asarray(whole, dtype=np.float64)
        return lambda index: float(metric(logits[index], labels[index], take(index)))

    compared = gate.no_worse_than or gate.cases_losing is not None
    return CustomValues(on(ours), on(theirs) if compared else None)


def _count_opening(plan: Plan, executor: Executor, chosen: Mapping[str, Trial], specs: list[Spec]) -> OpeningRow | None:
    """Count before looking: an opening is recorded unless every answer on the gate set is cached already."""
    dataset = executor.dataset
    if dataset is None:
        raise ValueError("the data step has not run")
    if all(executor.find(spec, *executor.address(spec)) is not None for spec in specs):
        return None
    digest = dataset.facts["splits"]["gate"]["digest"]
    targets = {device: trial.candidate.name for device, trial in chosen.items()}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    number = executor.store.record_opening(digest, plan.loaded.recipe.name, targets, when)
    return OpeningRow(number=number, when=when, build=plan.loaded.recipe.name, digest=digest, targets=targets)
