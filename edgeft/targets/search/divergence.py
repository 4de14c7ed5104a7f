"""How far a compressed artefact's outputs are from the float one's, as one number that only ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.task import TOKEN_ANSWERS, class_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays

LOGITS = "logits"


def divergence(reference: Arrays, other: Arrays) -> float:
    """Mean over outputs of the same cases; 0 where they are equal, NaN where they cannot be compared.

    `logits` (n, classes, ...), of tokens (n, length, classes): the mean Kullback-Leibler divergence of the class
    probabilities, in nats; with a single class that of its sigmoid. Any other output: the power of the difference over
    the power of the reference; of a language model's answers, that of the log-probabilities of the next tokens.
    """
    import numpy as np

    parts = []
    if set(reference) == set(TOKEN_ANSWERS):
        reference = {TOKEN_ANSWERS[0]: reference[TOKEN_ANSWERS[0]]}
    for name, given in reference.items():
        if name not in other or np.shape(other[name]) != np.shape(given) or not np.size(given):
            return float("nan")
        ours, theirs = np.asarray(given, np.float64), np.asarray(other[name], np.float64)
        parts.append(_kl(ours, theirs) if name == LOGITS and ours.ndim > 1 else noise_ratio(ours, theirs))
    return float(np.mean(parts)) if parts else float("nan")


def divergences(reference: Arrays, other: Arrays) -> list[float]:
    """The divergence of each case by itself."""
    return [
        divergence(
            {name: array[index : index + 1] for name, array in reference.items()},
            {name: array[index : index + 1] for name, array in other.items()},
        )
        for index in range(len(next(iter(reference.values()), ())))
    ]


def noise_ratio(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Power of the difference over power of the reference: 10 ** (-SQNR / 10)."""
    import numpy as np

    power = float(np.square(reference).mean())
    noise = float(np.square(other - reference).mean())
    return noise / power if power > 0 else (0.0 if noise == 0 else float("inf"))


def _kl(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Mean KL(float || other) over cases and positions."""
    import numpy as np
    from scipy.special import log_expit, log_softmax

    axis = class_axis(ours.ndim)
    if ours.shape[1] == 1 and axis == 1:
        ours, theirs = np.concatenate([ours, -ours], 1), np.concatenate([theirs, -theirs], 1)
        first, second = log_expit(ours), log_expit(theirs)
    else:
        first, second = log_softmax(ours, axis=axis), log_softmax(theirs, axis=axis)
    return float(np.maximum((np.exp(first) * (first - second)).sum(axis=axis), 0.0).mean())
