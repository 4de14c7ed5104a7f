"""What compression changed, case by case: right before and wrong now, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.task import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def lost_and_gained(source: Score, artefact: Score) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(lost, gained), each (n,) bool: right only in the source, right only in the artefact. Disjoint.

    ValueError if the two scores are not of the same number of cases.
    """
    import numpy as np

    before, after = np.asarray(source.correct, dtype=bool), np.asarray(artefact.correct, dtype=bool)
    if before.shape != after.shape or before.ndim != 1:
        raise ValueError(f"scores of different cases: {before.shape} and {after.shape}")
    return before & ~after, after & ~before


def flips(source: Score, artefact: Score) -> dict[str, int]:
    """Counts {both_right, both_wrong, lost, gained}; they add up to n."""
    lost, gained = lost_and_gained(source, artefact)
    right = int((source.correct & artefact.correct).sum())
    counts = {"both_right": right, "lost": int(lost.sum()), "gained": int(gained.sum())}
    return {**counts, "both_wrong": len(lost) - sum(counts.values())}
