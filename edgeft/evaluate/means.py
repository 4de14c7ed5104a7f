"""Means of paired differences beside the bound that decides them (betting.bound_mean): a test for alarms, the
bootstrap-t for information, and the tail gate for rare catastrophes that a mean hides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate.betting import unit_means
from edgeft.evaluate.statistics import Bound, bound_rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EXACT_UNITS = 15
"""Up to this many units every one of the 2 ** units sign patterns is counted."""
DRAWS = 10_000
BLOCK = 500


def sign_flip(differences: Floats, units: NDArray[Any], *, seed: int = 0) -> float:
    """Two-sided p-value of "unit means of differences are symmetric around 0". Fisher 1935, The Design of
    Experiments, section 21.

    differences: (n,) float64. Exact for up to EXACT_UNITS units; beyond, DRAWS random patterns, the observed one
    counted among them (Phipson & Smyth 2010), so never 0. For alarms: a large p is no evidence of equality.
    """
    import numpy as np

    means = unit_means(differences, units)
    count = len(means)
    seen = abs(float(means.sum())) * (1 - 1e-12)
    if count <= EXACT_UNITS:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ means) >= seen).mean())
    random, reached = np.random.default_rng(seed), 1
    for start in range(0, DRAWS, BLOCK):
        signs = 1 - 2 * random.integers(0, 2, (min(BLOCK, DRAWS - start), count))
        reached += int((np.abs(signs @ means) >= seen).sum())
    return reached / (DRAWS + 1)


def bootstrap_t(values: Floats, units: NDArray[Any], alpha: float, *, seed: int = 0) -> tuple[float, float]:
    """Bounds, each one-sided at alpha, of the mean over units. Efron & Tibshirani 1993, section 12.5.

    Approximate, for information: where 2% of 50 cases lose 0.3 it passes a third of what is as bad as the margin.
    (NaN, NaN) where every unit has one value or there is one unit: it then knows no spread.
    """
    import numpy as np

    means = unit_means(values, units)
    count = len(means)
    if count < 2 or float(np.ptp(means)) == 0:
        return float("nan"), float("nan")
    random, ratios = np.random.default_rng(seed), []
    for _ in range(0, DRAWS, BLOCK):
        drawn = means[random.integers(0, count, (BLOCK, count))]
        error = drawn.std(axis=1, ddof=1)
        kept = error > 1e-12 * float(np.ptp(means))
        ratios.append((drawn.mean(axis=1)[kept] - means.mean()) / error[kept])
    low, high = np.quantile(np.concatenate(ratios), [alpha, 1 - alpha])
    error, mean = float(means.std(ddof=1)), float(means.mean())
    return mean - float(high) * error, mean - float(low) * error


def bound_tail(losses: Floats, worse_by: float, units: NDArray[Any], alpha: float) -> Bound:
    """Bounds, each one-sided at alpha, of the share of cases that lose more than `worse_by`: the tail gate.

    losses: (n,) float64, source minus artefact. Clopper & Pearson's bound where each case is its own unit, and
    bound_rate's form of it where not. ValueError for NaN, which no comparison would count.
    """
    import numpy as np

    if not np.isfinite(losses).all():
        raise ValueError("a loss that is not a finite number")
    return bound_rate(np.asarray(losses > worse_by), units, alpha)
