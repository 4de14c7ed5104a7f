"""Learning-rate schedules as plain functions of the step: the factor on the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

Schedule = Literal["linear", "cosine", "step", "constant"]


def rate_factor(
    schedule: Schedule,
    total: int,
    warmup: int,
    *,
    milestones: Sequence[float] = (0.5, 0.75),
    decay: float = 0.1,
) -> Callable[[int], float]:
    """Step (0-based) -> factor in [0, 1]. Linear warm-up over `warmup` steps, then the schedule to `total`.

    linear: straight to 0. cosine: half a cosine to 0 (Loshchilov & Hutter 2017, arXiv 1608.03983).
    step: times `decay` at each of `milestones`, fractions of the run. constant: 1.
    """
    span = max(1, total - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / span)
        if schedule == "linear":
            return 1.0 - done
        if schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        if schedule == "step":
            return float(decay ** sum(step >= fraction * total for fraction in milestones))
        return 1.0

    return factor
