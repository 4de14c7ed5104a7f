"""The same bytes on two targets, over the same cases: what another instruction set changes in the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.artifact import Artifact
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.steps.answers import thin_index
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.record import DifferenceRow


def compare_targets(executor: Executor, trials: Mapping[str, list[Trial]]) -> dict[str, list[DifferenceRow]]:
    """Target -> a row for each of its artefacts that an earlier target ran too, whichever that was first."""
    first: dict[str, tuple[str, Artifact]] = {}
    rows: dict[str, list[DifferenceRow]] = {device: [] for device in trials}
    for device, tried in trials.items():
        for trial in tried:
            if trial.outputs is None or not trial.row.digest:
                continue
            other = first.setdefault(trial.row.digest, (device, trial.outputs))
            if other[0] != device:
                rows[device].append(_row(executor, trial.row.name, other, trial.outputs))
    return rows


def _row(executor: Executor, name: str, other: tuple[str, Artifact], outputs: Artifact) -> DifferenceRow:
    import numpy as np

    total = int(executor.done["source/search"].facts["n"])
    ours, theirs = _answers(outputs, total), _answers(other[1], total)
    common = sorted(set(ours[0]) & set(theirs[0]))
    mine = ours[1][[ours[0][case] for case in common]].astype(np.float64)
    base = theirs[1][[theirs[0][case] for case in common]].astype(np.float64)
    apart = np.abs(mine - base)
    agreement = float((mine.argmax(1) == base.argmax(1)).mean()) if mine.ndim == 2 and common else None
    maps = [found[2] for found in (ours, theirs)]
    if maps[0] is not None and maps[1] is not None and common:  # a class per pixel: the share of equal pixels
        same = maps[0][[ours[0][case] for case in common]] == maps[1][[theirs[0][case] for case in common]]
        agreement = float(same.mean())
    return DifferenceRow(
        candidate=name,
        against=other[0],
        n=len(common),
        max_abs=float(apart.max(initial=0.0)),
        mean_abs=float(apart.mean()) if apart.size else 0.0,
        top1_agreement=agreement,
    )


def _answers(outputs: Artifact, total: int) -> tuple[dict[int, int], Any, Any]:
    """(case of the source's answers -> row here, logits or their means over a case's pixels, class maps or None)."""
    n = int(outputs.facts["n"])
    index = thin_index(total, n) or list(range(n))
    arrays = load_arrays(outputs.path / "outputs.npz")
    logits = arrays["logits"] if "logits" in arrays else arrays["mean_logits"]
    return {case: row for row, case in enumerate(index)}, logits, arrays.get("classes")
