"""One candidate on two targets, over the same cases: what another instruction set changes in the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.steps.answers import thin_index
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.pipeline.steps.candidates import Candidate
from edgeft.pipeline.steps.serve import serve_shape
from edgeft.recipe.schema import Recipe
from edgeft.record import DifferenceRow
from edgeft.task import TOKEN_ANSWERS


def compare_targets(
    executor: Executor, trials: Mapping[str, list[Trial]], recipe: Recipe
) -> dict[str, list[DifferenceRow]]:
    """Target -> a row for each of its candidates that an earlier target ran too, whichever that was first.

    The same bytes are paired before all else, else candidates of one name: an exporter may make them for the processor
    (7-bit weights for an x86 without VNNI), and that is where processors differ most. The row then says so.
    """
    first: dict[str, Trial] = {}
    rows: dict[str, list[DifferenceRow]] = {device: [] for device in trials}
    for device, tried in trials.items():
        for trial in tried:
            if trial.outputs is None or not trial.row.digest:
                continue
            keys = (trial.row.digest, trial.row.name)
            others = [first[key] for key in keys if key in first and first[key].candidate.device.name != device]
            rows[device] += [_row(executor, trial, other, recipe) for other in others[:1]]
            for key in keys:
                first.setdefault(key, trial)
    return rows


def other_bytes(ours: Candidate, theirs: Candidate, recipe: Recipe) -> str:
    """In what two candidates of one name were made differently: names of their options and of the export's settings."""
    one, two = (_made(candidate, recipe) for candidate in (ours, theirs))
    return ", ".join(sorted(key for key in one | two if one.get(key) != two.get(key))) or "not known why"


def _made(candidate: Candidate, recipe: Recipe) -> dict[str, Any]:
    found = dict(candidate.exporter.settings(candidate.device, serve_shape(recipe.serve)))
    if candidate.variant is not None:
        found |= {**candidate.variant.options, "keep_float": candidate.variant.keep_float}
    return found


def _row(executor: Executor, trial: Trial, other: Trial, recipe: Recipe) -> DifferenceRow:
    import numpy as np

    total = int(executor.done["source/search"].facts["n"])
    ours, theirs = _answers(trial, total), _answers(other, total)
    common = sorted(set(ours[0]) & set(theirs[0]))
    mine = ours[1][[ours[0][case] for case in common]].astype(np.float64)
    base = theirs[1][[theirs[0][case] for case in common]].astype(np.float64)
    apart = np.abs(mine - base)
    agreement = float((mine.argmax(1) == base.argmax(1)).mean()) if mine.ndim == 2 and common else None
    maps = [found[2] for found in (ours, theirs)]
    if maps[0] is not None and maps[1] is not None and common:  # a class per pixel or token: the share of equal ones
        same = maps[0][[ours[0][case] for case in common]] == maps[1][[theirs[0][case] for case in common]]
        agreement = float(same.mean())
    return DifferenceRow(
        candidate=trial.row.name,
        against=other.candidate.device.name,
        n=len(common),
        max_abs=float(apart.max(initial=0.0)),
        mean_abs=float(apart.mean()) if apart.size else 0.0,
        top1_agreement=agreement,
        other_bytes=""
        if trial.row.digest == other.row.digest
        else other_bytes(trial.candidate, other.candidate, recipe),
    )


def _answers(trial: Trial, total: int) -> tuple[dict[int, int], Any, Any]:
    """(case of the source's answers -> row here, logits, their means over a case's pixels or the log-probabilities of
    its next tokens, class maps or likeliest tokens or None)."""
    outputs = trial.outputs
    if outputs is None:
        raise ValueError(f"{trial.row.name} has no answers")
    n = int(outputs.facts["n"])
    index = thin_index(total, n) or list(range(n))
    arrays = load_arrays(outputs.path / "outputs.npz")
    name = next(name for name in ("logits", "mean_logits", TOKEN_ANSWERS[0]) if name in arrays)
    answered = arrays.get("classes", arrays.get(TOKEN_ANSWERS[1]))
    return {case: row for row, case in enumerate(index)}, arrays[name], answered
