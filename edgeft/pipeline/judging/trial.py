"""Try the candidates of every target: each becomes a row of the report, whatever happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeft.artifact import Artifact
from edgeft.device.protocol import ArtefactRefused
from edgeft.exporter import Unsupported
from edgeft.measurement import Measurement
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.released import released_id
from edgeft.pipeline.judging.scoring import answered_rows, baseline_score, score_both, with_gated
from edgeft.pipeline.plan import Plan
from edgeft.pipeline.steps.branches import making_specs
from edgeft.pipeline.steps.candidates import Candidate
from edgeft.pipeline.steps.emulation import pace_spec
from edgeft.pipeline.steps.making import export_spec
from edgeft.pipeline.steps.measuring import latency_spec, operators_spec, outputs_spec, parity_spec
from edgeft.record import CandidateRow, LatencyRow, OperatorRow, ParityRow
from edgeft.targets.choose import Miss
from edgeft.targets.measure import artifact_bytes, fallback_fraction
from edgeft.task import Score

SEARCH_ALPHA = 0.025
"""Each side of the interval shown with a search-set accuracy: 95% in all. Nothing is decided on it."""


@dataclass
class Trial:
    """What became of one candidate. score: on the search set, None when it could not run. baselines: scores of what
    gates compare with on the same cases, by `gate.released`, the source's under None. outputs: the step's artefact with
    its answers. unlikely: why a search does not take it though its values on the search set may be within the gates;
    None where it may be taken."""

    candidate: Candidate
    row: CandidateRow
    artifact: Artifact | None = None
    score: Score | None = None
    baselines: dict[str | None, Score] = field(default_factory=dict)
    outputs: Artifact | None = None
    measurements: list[Measurement] = field(default_factory=list)
    unlikely: Miss | None = None

    @property
    def source(self) -> Score | None:
        """The source's score on the cases that this candidate answered."""
        return self.baselines.get(None)


def try_candidates(plan: Plan, executor: Executor) -> dict[str, list[Trial]]:
    """Target (device name) -> trials, float exports first. Failures of one candidate do not stop the others."""
    trials: dict[str, list[Trial]] = {device: [] for device in plan.devices}
    refused: dict[str, str] = {}
    for candidate in plan.candidates:
        branch = f"{candidate.device.name}/{candidate.exporter.name}"
        trial = new_trial(candidate)
        trials[candidate.device.name].append(trial)
        if branch in refused and candidate.variant is not None:
            trial.row = trial.row.model_copy(
                update={"status": "unsupported", "why": f"there is no float export: {refused[branch]}"}
            )
            continue
        try_one(plan, executor, trial)
        if candidate.variant is None and trial.row.status in ("unsupported", "failed"):
            refused[branch] = trial.row.why
    return trials


def new_trial(candidate: Candidate) -> Trial:
    """A trial that has not been tried."""
    return Trial(candidate, _row(candidate))


def try_one(plan: Plan, executor: Executor, trial: Trial, *, timed: bool = True) -> None:
    """Make, run, measure one candidate; what it cannot do is said in its row. timed: its latency and operators too."""
    try:
        _try(plan, executor, trial, timed)
    except Unsupported as refusal:
        reason = refusal_text(refusal)
        trial.row = trial.row.model_copy(update={"status": "unsupported", "why": reason})
        executor.leave_out(reason)
    except ArtefactRefused as refusal:
        trial.row = trial.row.model_copy(update={"status": "failed", "why": refusal.what})
        executor.leave_out(refusal.what, state="failed")


def refusal_text(refusal: Unsupported) -> str:
    """`Foo: cannot be converted`, with the operator's name where there is one."""
    return f"{refusal.op}: {refusal.reason}" if refusal.op else refusal.reason


def _row(candidate: Candidate) -> CandidateRow:
    variant: Mapping[str, Any] = candidate.variant.to_json() if candidate.variant else {"name": "float"}
    return CandidateRow(
        name=candidate.name,
        exporter=candidate.exporter.name,
        runtime=candidate.exporter.runtime,
        variant=dict(variant),
        status="eligible",
        why="",
    )


def _try(plan: Plan, executor: Executor, trial: Trial, timed: bool) -> None:
    recipe, candidate = plan.loaded.recipe, trial.candidate
    if candidate.variant is None:
        trial.artifact = executor.perform(export_spec(candidate, plan.trunk.model, recipe))
        if candidate.runs and not _prove(plan, executor, trial):
            return
    else:
        trial.artifact = make_compressed(plan, executor, candidate)
    most, size = candidate.device.max_artifact_mb, artifact_bytes(trial.artifact)
    notes = [str(note) for note in trial.artifact.facts.get("notes", ())]
    trial.row = trial.row.model_copy(update={"notes": notes})
    if most is not None and size / 1e6 > most:
        why = f"{size / 1e6:.3g} MB do not fit {candidate.device.name}, which takes {most:g} MB"
        trial.row = trial.row.model_copy(update={"status": "rejected", "why": why, "bytes": size})
        return
    if not candidate.runs:
        trial.measurements = [_size(candidate, trial.artifact)]
        sized = [measurement.to_json() for measurement in trial.measurements]
        trial.row = trial.row.model_copy(update={"metrics": sized, "digest": trial.artifact.digest, "bytes": size})
        return
    cases = recipe.measure.search_cases
    if candidate.emulated:
        executor.perform(pace_spec(candidate, recipe))
    spec = outputs_spec(candidate, recipe, "search")
    trial.outputs = executor.done.get(spec.id) or executor.perform(spec)  # a search may have its answers already
    score_trial(plan, executor, trial, trial.outputs)
    changes: dict[str, Any] = {}
    if not timed or not candidate.is_timed(recipe):
        trial.measurements = [_size(candidate, trial.artifact)]
    else:
        changes = _timed(plan, executor, trial)
    changes |= _memory_budget(candidate, trial, notes)
    trial.row = trial.row.model_copy(update={**changes, **_scored(trial, executor, cases)})


def score_trial(plan: Plan, executor: Executor, trial: Trial, outputs: Artifact) -> None:
    """Its score, the source's and released bundles' on the same search cases, with every metric that a gate names."""
    recipe = plan.loaded.recipe
    gates, rows = recipe.gates, answered_rows(executor, "search", recipe.measure.search_cases, outputs)
    ours, theirs = score_both(executor, outputs, "search", rows, gates)
    trial.score = with_gated(ours, theirs, rows, gates)
    trial.baselines = {None: with_gated(theirs, theirs, rows, gates)}
    for path, bundle in plan.released.items():
        same = [gate for gate in gates if gate.released == path]
        shipped = baseline_score(executor, released_id(bundle, "search"), rows, outputs, same)
        trial.baselines[path] = with_gated(shipped, shipped, rows, same)


def make_compressed(plan: Plan, executor: Executor, candidate: Candidate) -> Artifact:
    """A compressed candidate's artefact, the statistics it is made from first."""
    specs = making_specs(candidate, plan.trunk, plan.loaded.recipe)
    return [executor.done.get(spec.id) or executor.perform(spec) for spec in specs][-1]


def _prove(plan: Plan, executor: Executor, trial: Trial) -> bool:
    """Parity with the model it was exported from, into the trial's row; False where it fails."""
    parity = ParityRow.model_validate(
        executor.perform(parity_spec(trial.candidate, plan.trunk.model, plan.loaded.recipe)).facts["parity"]
    )
    trial.row = trial.row.model_copy(update={"parity": parity})
    if not parity.passed:
        far = f"by up to {parity.max_abs:.3g}, tolerance {parity.tolerance:.3g}"
        origin = "given ONNX file" if plan.inputs.model.kind == "onnx" else "torch model"
        why = f"its answers differ from the {origin}'s {far}"
        trial.row = trial.row.model_copy(update={"status": "failed", "why": why})
    return parity.passed


def _timed(plan: Plan, executor: Executor, trial: Trial) -> dict[str, Any]:
    """Latency, placement and operators for the trial's row; its measurements are set."""
    candidate, recipe = trial.candidate, plan.loaded.recipe
    facts = executor.perform(latency_spec(candidate, recipe)).facts
    trial.measurements = [Measurement.from_json(item) for item in facts["measurements"]]
    if energy := _energy(candidate, trial.measurements):
        trial.measurements.append(energy)
    profile = executor.perform(operators_spec(candidate, recipe)).facts
    placement = {str(name): int(count) for name, count in profile["placement"].items()}
    return {
        "latency": LatencyRow.model_validate(facts["latency"]),
        "placement": placement,
        "fallback": fallback_fraction(placement, candidate.device, candidate.exporter.runtime),
        "operators": [OperatorRow.model_validate(row) for row in profile["operators"]],
    }


def _memory_budget(candidate: Candidate, trial: Trial, notes: list[str]) -> dict[str, Any]:
    """A rejection for the row where the process took more than the device's budget; a note where nobody measured it."""
    most = candidate.device.max_memory_mb
    if most is None:
        return {}
    peak = next((item.value for item in trial.measurements if item.metric == "peak_memory_mb"), None)
    if peak is None:
        return {"notes": [*notes, f"not held against the memory budget of {most:g} MB: its memory was not measured"]}
    if peak <= most:
        return {}
    why = f"{peak:.3g} MB of memory are over the budget of {candidate.device.name}, {most:g} MB"
    return {"status": "rejected", "why": why}


def _scored(trial: Trial, executor: Executor, cases: int | None) -> dict[str, Any]:
    from edgeft.data.table import column_array
    from edgeft.evaluate.flips import flips
    from edgeft.evaluate.statistics import bound_rate

    if trial.score is None or trial.source is None or trial.artifact is None or trial.outputs is None:
        return {}
    n = len(trial.score.correct)
    where, how = trial.candidate.device.name, trial.candidate.device.how
    units = column_array(answered_rows(executor, "search", cases, trial.outputs), "unit")
    bound = bound_rate(trial.score.correct, units, SEARCH_ALPHA)
    spans = {"accuracy": ((bound.low, bound.high), f"search set, {bound.method}")}
    scores = []
    for name, value in sorted(trial.score.metrics.items()):
        span, method = spans.get(name, (None, "search set"))
        scores.append(Measurement(name, value, "", n, how, where, span, 1 - 2 * SEARCH_ALPHA, method))
    return {
        "metrics": [measurement.to_json() for measurement in [*scores, *trial.measurements]],
        "flips": dict(flips(trial.source, trial.score)),
        "confusion": trial.score.confusion.tolist(),
        "digest": trial.artifact.digest,
        "bytes": artifact_bytes(trial.artifact),
    }


def _energy(candidate: Candidate, found: list[Measurement]) -> Measurement | None:
    """Processor time of a run times the watts that the device's profile declares for a core: a proxy, not a meter."""
    watts = candidate.device.watts
    time = next((item for item in found if item.metric == "processor_ms"), None)
    if watts is None or time is None or candidate.target.optimise != "energy-proxy":
        return None
    method = f"estimated: processor time x {watts:g} W a core, as the device's profile declares"
    return Measurement(
        "energy_proxy_mj", time.value * watts, "mJ", time.n, "estimated", time.where, None, time.confidence, method
    )


def _size(candidate: Candidate, artifact: Artifact) -> Measurement:
    return Measurement(
        "artifact_mb", artifact_bytes(artifact) / 1e6, "MB", 1, "measured", candidate.device.name, method="file size"
    )
