"""Try the candidates of every target: each becomes a row of the report, whatever happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeft.artifact import Artifact
from edgeft.device.protocol import ArtefactRefused
from edgeft.exporter import Unsupported
from edgeft.measurement import Measurement
from edgeft.pipeline.answers import thin
from edgeft.pipeline.arrays import load_arrays
from edgeft.pipeline.branches import Candidate, compress_spec, export_spec, latency_spec, outputs_spec, parity_spec
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.plan import Plan
from edgeft.record import CandidateRow, LatencyRow, ParityRow
from edgeft.targets.measure import artifact_bytes
from edgeft.task import Score

SEARCH_ALPHA = 0.025
"""Each side of the interval shown with a search-set accuracy: 95% in all. Nothing is decided on it."""


@dataclass
class Trial:
    """What became of one candidate. score: on the search set, None when it could not run."""

    candidate: Candidate
    row: CandidateRow
    artifact: Artifact | None = None
    score: Score | None = None
    measurements: list[Measurement] = field(default_factory=list)


def try_candidates(plan: Plan, executor: Executor, source: Score) -> dict[str, list[Trial]]:
    """Target (device name) -> trials, float exports first. Failures of one candidate do not stop the others."""
    trials: dict[str, list[Trial]] = {device: [] for device in plan.devices}
    refused: dict[str, str] = {}
    for candidate in plan.candidates:
        branch = f"{candidate.device.name}/{candidate.exporter.name}"
        trial = Trial(candidate, _row(candidate))
        trials[candidate.device.name].append(trial)
        if branch in refused and candidate.variant is not None:
            trial.row = trial.row.model_copy(
                update={"status": "unsupported", "why": f"there is no float export: {refused[branch]}"}
            )
            continue
        try:
            _try(plan, executor, trial, source)
        except Unsupported as refusal:
            reason = f"{refusal.op}: {refusal.reason}" if refusal.op else refusal.reason
            trial.row = trial.row.model_copy(update={"status": "unsupported", "why": reason})
            executor.leave_out(reason)
        except ArtefactRefused as refusal:
            trial.row = trial.row.model_copy(update={"status": "failed", "why": refusal.what})
            executor.leave_out(refusal.what, state="failed")
        if candidate.variant is None and trial.row.status in ("unsupported", "failed"):
            refused[branch] = trial.row.why
    return trials


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


def _try(plan: Plan, executor: Executor, trial: Trial, source: Score) -> None:
    recipe, candidate = plan.loaded.recipe, trial.candidate
    changes: dict[str, Any] = {}
    if candidate.variant is None:
        trial.artifact = executor.perform(export_spec(candidate, plan.trunk.model, recipe))
        parity = ParityRow.model_validate(
            executor.perform(parity_spec(candidate, plan.trunk.model, recipe)).facts["parity"]
        )
        changes["parity"] = parity
        if not parity.passed:
            far = f"by up to {parity.max_abs:.3g}, tolerance {parity.tolerance:.3g}"
            why = f"its answers differ from the torch model's {far}"
            trial.row = trial.row.model_copy(update={**changes, "status": "failed", "why": why})
            return
    else:
        trial.artifact = executor.perform(compress_spec(candidate, plan.trunk.model, recipe))
    most, size = candidate.device.max_artifact_mb, artifact_bytes(trial.artifact)
    if most is not None and size / 1e6 > most:
        why = f"{size / 1e6:.3g} MB do not fit {candidate.device.name}, which takes {most:g} MB"
        trial.row = trial.row.model_copy(update={**changes, "status": "rejected", "why": why, "bytes": size})
        return
    outputs = executor.perform(outputs_spec(candidate, recipe, "search", recipe.measure.search_cases))
    trial.score = score_outputs(executor, outputs, "search", recipe.measure.search_cases)
    if candidate.device.how == "measured":
        facts = executor.perform(latency_spec(candidate, recipe)).facts
        trial.measurements = [Measurement.from_json(item) for item in facts["measurements"]]
        changes["latency"] = LatencyRow.model_validate(facts["latency"])
        changes["placement"] = facts["placement"]
    else:
        trial.measurements = [_size(candidate, trial.artifact)]
    trial.row = trial.row.model_copy(
        update={**changes, **_scored(trial, source, executor, recipe.measure.search_cases)}
    )


def score_outputs(executor: Executor, outputs: Artifact, split: str, cases: int | None) -> Score:
    """Score a step's outputs.npz against the rows they answer."""
    rows = split_rows(executor, split, cases)
    labels = executor.dataset.facts["labels"] if executor.dataset else []
    return executor.task.score(load_arrays(outputs.path / "outputs.npz"), rows, labels)


def split_rows(executor: Executor, split: str, cases: int | None = None) -> Any:
    """Rows of a split of this build's dataset, thinned as the steps thin them."""
    from edgeft.data.table import read_split

    if executor.dataset is None:
        raise ValueError("the data step has not run")
    return thin(read_split(executor.dataset.path / f"{split}.parquet"), cases)


def _scored(trial: Trial, source: Score, executor: Executor, cases: int | None) -> dict[str, Any]:
    from edgeft.data.table import column_array
    from edgeft.evaluate.flips import flips
    from edgeft.evaluate.statistics import bound_rate

    if trial.score is None or trial.artifact is None:
        return {}
    n = len(trial.score.correct)
    where, how = trial.candidate.device.name, trial.candidate.device.how
    units = column_array(split_rows(executor, "search", cases), "unit")
    bound = bound_rate(trial.score.correct, units, SEARCH_ALPHA)
    spans = {"accuracy": ((bound.low, bound.high), f"search set, {bound.method}")}
    scores = []
    for name, value in sorted(trial.score.metrics.items()):
        span, method = spans.get(name, (None, "search set"))
        scores.append(Measurement(name, value, "", n, how, where, span, 1 - 2 * SEARCH_ALPHA, method))
    return {
        "metrics": [measurement.to_json() for measurement in [*scores, *trial.measurements]],
        "flips": dict(flips(source, trial.score)),
        "confusion": trial.score.confusion.tolist(),
        "digest": trial.artifact.digest,
        "bytes": artifact_bytes(trial.artifact),
    }


def _size(candidate: Candidate, artifact: Artifact) -> Measurement:
    return Measurement(
        "artifact_mb", artifact_bytes(artifact) / 1e6, "MB", 1, "measured", candidate.device.name, method="file size"
    )
