"""Calibration: expected calibration error and Brier score, of one model and against another on the same rows.

A plug-in ECE is never below the truth on average: a perfectly calibrated model shows one of about 0.8 sqrt(bins / n)
times the spread of its answers (Broecker 2012; Kumar, Liang & Ma 2019, NeurIPS 32). For an upper bound that errs on
the safe side. For the source in a comparison it would not: its excess would be given away to the artefact. So what is
subtracted for the source, and any lower bound, takes each bin's sign from the other half of the units, which is never
above the truth on average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from edgeft.evaluate.statistics import Bound, Undecidable
from edgeft.evaluate.unseen import describe, draw_weights, pick_bounds, sum_units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Indices = NDArray[np.int64]
    Units = NDArray[Any]
    Answers = tuple[Floats, Bools]

BINS = 10
Binning = Literal["mass", "width"]


def brier_cases(probabilities: Floats, truth: Indices) -> Floats:
    """(n,) Brier scores of cases, halved so that they lie in [0, 1]; their mean is what betting.bound_mean bounds.

    probabilities: (n, classes), rows summing to 1; truth: (n,) indices. Brier 1950, Monthly Weather Review 78; with
    two classes the half is the usual (p - y)**2 of one of them. Undecidable where probabilities are none.
    """
    import numpy as np

    sums = probabilities.sum(axis=1)
    if not (np.isfinite(sums).all() and (probabilities >= 0).all() and np.abs(sums - 1).max() < 1e-3):
        raise Undecidable("the outputs are no probabilities")
    shares = probabilities / sums[:, None]
    hit = shares[np.arange(len(truth)), truth]
    return np.asarray(np.clip(((shares**2).sum(axis=1) - 2 * hit + 1) / 2, 0.0, 1.0), dtype=np.float64)


def bin_of(confidence: Floats, binning: Binning = "mass", bins: int = BINS) -> Indices:
    """(n,) bin numbers. "width": equal parts of [0, 1], closed on the right, as Naeini, Cooper & Hauskrecht 2015 (AAAI)
    and Guo et al. 2017 have them. "mass": as many rows in each as ties allow, which biases less (Kumar et al. 2019)."""
    import numpy as np

    if binning == "width":
        return np.asarray(np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1), dtype=np.int64)
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    return np.asarray(np.searchsorted(edges, confidence, side="left"), dtype=np.int64)


def ece(confidence: Floats, correct: Bools, binning: Binning = "mass", bins: int = BINS) -> float:
    """Mean over rows of the gap between confidence and accuracy of the row's bin: the plug-in value people report."""
    import numpy as np

    _check(confidence, correct)
    gaps = np.bincount(bin_of(confidence, binning, bins), weights=confidence - correct)
    return float(np.abs(gaps).sum() / len(correct))


def bound_ece(
    confidence: Floats, correct: Bools, units: Units, alpha: float, *, binning: Binning = "mass", bins: int = BINS
) -> Bound:
    """Bounds, each one-sided at alpha, of the ECE over these bins.

    confidence: (n,) of the predicted class, in [0, 1]; correct: (n,) bool. Estimate: the plug-in value.
    """
    _check(confidence, correct)
    return _bound((confidence, correct), None, units, alpha, binning, bins)


def bound_ece_rise(
    source: Answers, artefact: Answers, units: Units, alpha: float, *, binning: Binning = "mass", bins: int = BINS
) -> Bound:
    """Bounds, each one-sided at alpha, of the ECE of the artefact less that of the source: positive is worse.

    source, artefact: (confidence, correct) of the same n rows. Each is binned by its own confidences. Estimate: the
    difference of the plug-in values.
    """
    for given in (source, artefact):
        _check(*given)
    return _bound(artefact, source, units, alpha, binning, bins)


def _bound(ours: Answers, theirs: Answers | None, units: Units, alpha: float, binning: Binning, bins: int) -> Bound:
    """ours - theirs. Upper: ours plug-in, theirs signed by the other half; lower: the other way round."""
    import numpy as np

    estimate = ece(*ours, binning, bins) - (ece(*theirs, binning, bins) if theirs else 0.0)
    zero = np.zeros((len(units), 0))
    mine, careful = _gaps(ours, binning, bins), _signed(ours, units, binning, bins)
    other, careful_other = (
        (_gaps(theirs, binning, bins), _signed(theirs, units, binning, bins)) if theirs else (zero, zero)
    )
    sizes = np.ones((len(units), 1))
    highs, count = _replicates(np.concatenate([sizes, mine, careful_other], axis=1), bins, units, _plain_less_signed)
    lows, _ = _replicates(
        np.concatenate([sizes, other, careful], axis=1), bins if theirs else 0, units, _signed_less_plain
    )
    low, high = pick_bounds(lows, highs, alpha)
    floor = 0.0 if theirs is None else -1.0
    return Bound(estimate, max(floor, low), min(1.0, high), len(units), float(count), describe(count))


def _replicates(
    rows: Floats, bins: int, units: Units, statistic: Callable[[Floats, int, Floats], Floats]
) -> tuple[Floats, int]:
    import numpy as np

    sums, count = sum_units(rows, units)
    values = [statistic(weights @ sums, bins, unseen) for weights, unseen in draw_weights(count)]
    return np.concatenate(values), count


def _plain_less_signed(sums: Floats, bins: int, unseen: Floats) -> Floats:
    """sums: (draws, 1 + bins + 0 or 1): rows, plug-in gaps, signed gap of the other model."""
    import numpy as np

    shares = sums[:, 1:] / sums[:, :1]
    return np.asarray(np.abs(shares[:, :bins]).sum(axis=1) - shares[:, bins:].sum(axis=1) + unseen, dtype=np.float64)


def _signed_less_plain(sums: Floats, bins: int, unseen: Floats) -> Floats:
    import numpy as np

    return np.asarray(-_plain_less_signed(sums, bins, unseen), dtype=np.float64)


def _gaps(answers: Answers, binning: Binning, bins: int) -> Floats:
    """(n, bins) confidence less correctness in the row's bin, 0 in the others."""
    import numpy as np

    confidence, correct = answers
    return np.asarray(np.eye(bins)[bin_of(confidence, binning, bins)] * (confidence - correct)[:, None])


def _signed(answers: Answers, units: Units, binning: Binning, bins: int) -> Floats:
    """(n, 1) gaps with the sign that the other half of the units gives their bin."""
    import numpy as np

    confidence, correct = answers
    place, gap = bin_of(confidence, binning, bins), confidence - correct
    _, inverse = np.unique(units, return_inverse=True)
    half, signed = inverse % 2, np.zeros(len(gap))
    for side in (0, 1):
        ours = half == side
        signs = np.sign(np.bincount(place[~ours], weights=gap[~ours], minlength=bins))
        signed[ours] = signs[place[ours]] * gap[ours]
    return signed[:, None]


def _check(confidence: Floats, correct: Bools) -> None:
    import numpy as np

    if len(confidence) != len(correct):
        raise ValueError(f"{len(confidence)} confidences of {len(correct)} cases")
    if (
        len(correct) == 0
        or not np.isfinite(confidence).all()
        or confidence.min() < -1e-6
        or confidence.max() > 1 + 1e-6
    ):
        raise Undecidable("the confidences are no numbers from 0 to 1")
