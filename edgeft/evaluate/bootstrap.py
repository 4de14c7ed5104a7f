"""Approximate bounds for metrics without an exact one: the bootstrap over units.

Units, not rows, are drawn with replacement, and source and artefact are scored on the same draw (a paired cluster
bootstrap; Davison & Hinkley 1997, section 3.8). The bootstrap cannot imagine what the sample does not contain: a
bound is therefore widened by the share of units that could fail unseen, taken at the metric's full scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edgeft.evaluate.statistics import Bound, unseen_rate
from edgeft.evaluate.unseen import pick_bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

DRAWS = 4000
CALLBACK_DRAWS = 1000
"""A user's own function is called this often, twice where it is compared with the source; of many cases less often."""
FEWEST_CALLBACK_DRAWS = 400
MOST_CALLBACK_ROWS = 4_000_000
"""With more cases than MOST_CALLBACK_ROWS / CALLBACK_DRAWS fewer draws are taken, down to FEWEST_CALLBACK_DRAWS."""
BLOCK_ENTRIES = 8_000_000


def macro_f1_sums(truth: Indices, predictions: Indices, classes: int) -> Floats:
    """(n, 3 classes) per-row counts: hits, predictions and truths of each class; they add up over rows."""
    import numpy as np

    eye = np.eye(classes)
    predicted, true = eye[predictions], eye[truth]
    return np.concatenate([predicted * true, predicted, true], axis=1)


def macro_f1(sums: Floats) -> Floats:
    """(..., 3 classes) counts -> (...) mean F1 over the classes that occur in truth or predictions.

    The definition of scikit-learn's f1_score(average="macro"): a class that occurs and is never hit counts as 0.
    """
    import numpy as np

    hits, predicted, true = np.split(sums, 3, axis=-1)
    total = predicted + true
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.where(total > 0, 2 * hits / total, 0.0).sum(axis=-1) / (total > 0).sum(axis=-1)
    return np.asarray(scores, dtype=np.float64)


def bound_from_sums(
    rows: Floats,
    statistic: Callable[[Floats], Floats],
    units: NDArray[Any],
    alpha: float,
    *,
    scale: float = 1.0,
    seed: int = 0,
) -> Bound:
    """BCa bounds (Efron 1987, JASA 82), one-sided at alpha each, of a statistic of sums over rows.

    rows: (n, k), added up within units and then over the drawn units; statistic: (..., k) -> (...).
    scale: the metric's range, at which unseen failures are charged. Approximate: see the module's docstring.
    """
    import numpy as np

    _, inverse = np.unique(units, return_inverse=True)
    count = int(inverse.max()) + 1
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, inverse, rows)
    total = sums.sum(axis=0)
    estimate = float(statistic(total))
    low, high = estimate, estimate
    if count > 1:
        replicates = statistic(_draw_sums(sums, DRAWS, seed))
        low, high = _bca(estimate, replicates, statistic(total - sums), alpha)
    method = f"approximate: BCa bootstrap over {count} units, {DRAWS} draws"
    return _widen(Bound(estimate, low, high, len(rows), float(count), method), count, alpha, scale)


def bound_from_callback(
    metric: Callable[[Indices], float], units: NDArray[Any], alpha: float, *, worst: float = 1.0, seed: int = 0
) -> Bound:
    """Percentile bounds (Efron 1979, Annals of Statistics 7) of a metric that is only known as a function of cases,
    each draw mixed with the share of a unit nobody has seen (see `unseen`), which has the distribution that 1 of
    count + 1 weights has there, and the value -worst or worst.

    metric: row numbers (k,) int64, repetitions included -> float. A NaN in any draw makes both bounds NaN.
    """
    import numpy as np

    count, random = len(np.unique(units)), np.random.default_rng(seed)
    estimate = float(metric(np.arange(len(units), dtype=np.int64)))
    draws = int(min(CALLBACK_DRAWS, max(FEWEST_CALLBACK_DRAWS, MOST_CALLBACK_ROWS // len(units))))
    replicates = np.array([float(metric(rows)) for rows in _draw_rows(units, draws, random)])
    unseen = 1 - ((random.permutation(draws) + 0.5) / draws) ** (1 / count)
    seen, charge = (1 - unseen) * replicates, unseen * worst
    low, high = pick_bounds(seen - charge, seen + charge, alpha)
    method = f"approximate: percentile bootstrap over {count} units and an unseen one, {draws} draws"
    return _widen(Bound(estimate, low, high, len(units), float(count), method), count, alpha, worst)


def _draw_rows(units: NDArray[Any], draws: int, random: np.random.Generator) -> Iterator[Indices]:
    """Row numbers of as many units as there are, drawn with replacement, `draws` times."""
    import numpy as np

    _, inverse, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable").astype(np.int64)
    first, count = np.cumsum(sizes) - sizes, len(sizes)
    for _ in range(draws):
        units_drawn = random.integers(0, count, count)
        if count == len(order):
            yield order[units_drawn]
            continue
        lengths = sizes[units_drawn]
        skipped = np.repeat(first[units_drawn] - (np.cumsum(lengths) - lengths), lengths)
        yield order[skipped + np.arange(len(skipped))]


def acceleration(jackknife: Floats) -> float:
    """The BCa constant a from the leave-one-unit-out values (m,); Efron & Tibshirani 1993, equation 14.15."""
    spread = jackknife.mean() - jackknife
    squares = float((spread**2).sum())
    return float((spread**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0


def _draw_sums(sums: Floats, draws: int, seed: int) -> Floats:
    """(draws, k) sums over units drawn with replacement, in blocks of bounded memory."""
    import numpy as np

    count, random = len(sums), np.random.default_rng(seed)
    block = max(1, BLOCK_ENTRIES // count)
    parts = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        picks = random.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        weights = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count)
        parts.append(weights.astype(np.float64) @ sums)
    return np.concatenate(parts)


def _bca(estimate: float, replicates: Floats, jackknife: Floats, alpha: float) -> tuple[float, float]:
    import numpy as np
    from scipy.special import ndtr, ndtri

    replicates, jackknife = replicates[np.isfinite(replicates)], jackknife[np.isfinite(jackknife)]
    if not len(replicates):
        return float("nan"), float("nan")
    count = len(replicates)
    below = float((replicates < estimate).sum() + 0.5 * (replicates == estimate).sum()) / count
    bias = ndtri(min(max(below, 1 / (count + 1)), count / (count + 1)))
    skew = acceleration(jackknife)
    levels = []
    for level in (alpha, 1 - alpha):
        z = bias + ndtri(level)
        levels.append(float(ndtr(bias + z / max(1e-9, 1 - skew * z))))
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)


def _widen(bound: Bound, units: int, alpha: float, scale: float) -> Bound:
    """Never narrower around the estimate than what could have failed in every unit not drawn."""
    room = unseen_rate(units, alpha) * scale
    low, high = bound.low, bound.high
    if low == low and high == high:
        low, high = min(low, bound.estimate - room), max(high, bound.estimate + room)
    return Bound(bound.estimate, low, high, bound.n, bound.effective, bound.method)
