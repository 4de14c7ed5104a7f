"""Which cases have a label and which are answered with it: the likeliest one, label by label, or by a threshold."""

from __future__ import annotations

from math import ceil, nextafter
from typing import TYPE_CHECKING

from edgeft.evaluate.statistics import Undecidable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import OperatingPoint
    from edgeft.task import Score

    Hits = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]


def finding_of(metric: str, families: tuple[str, ...], labels: tuple[str, ...]) -> tuple[int, str]:
    """(place, label) that a metric such as `sensitivity_malignant` counts as the finding."""
    label = next(metric.removeprefix(family) for family in families if metric.startswith(family))
    return place_of(label, labels), label


def place_of(label: str, labels: tuple[str, ...]) -> int:
    """The label's place; Undecidable where there is none of the name."""
    if label not in labels:
        raise Undecidable(f"no label is called '{label}'")
    return labels.index(label)


def has_label(score: Score, truth: Indices | None, place: int) -> Hits:
    """(n,): whether each case is of the label, by the truth (n,) or, where cases have several, by the score's own."""
    import numpy as np

    if score.present is not None:
        return np.asarray(score.present[:, place], dtype=bool)
    if truth is None:
        raise Undecidable("the true labels were not given")
    return np.asarray(truth == place, dtype=bool)


def is_called(score: Score, place: int, point: OperatingPoint | None = None) -> Hits:
    """(n,): whether each case is answered with the label. point: from the source's threshold on, which is frozen."""
    import numpy as np

    if point is not None:
        if point not in score.thresholds:
            raise Undecidable(f"the threshold at a {point.words} was not fixed")
        return np.asarray(column(score, place) >= score.thresholds[point], dtype=bool)
    if score.called is not None:
        return np.asarray(score.called[:, place], dtype=bool)
    return np.asarray(score.predictions == place, dtype=bool)


def column(score: Score, place: int) -> Floats:
    """(n,) probability of one label."""
    return probabilities_of(score)[:, place]


def probabilities_of(score: Score) -> Floats:
    """(n, classes); Undecidable for a score without."""
    if score.probabilities is None:
        raise Undecidable("the answers have no probabilities")
    return score.probabilities


def freeze_threshold(source: Score, truth: Indices | None, point: OperatingPoint) -> float:
    """The source's threshold: cases whose probability of the label is at least this are answered with it.

    For a specificity the lowest that reaches it on these cases, for a sensitivity the highest; halfway to the next
    probability that occurs, so that the last bit of an artefact's answer decides nothing. Undecidable without a case
    that the rate is of.
    """
    import numpy as np

    place = place_of(point.label, source.labels)
    scores, held = column(source, place), has_label(source, truth, place)
    specific = point.rate == "specificity"
    those = np.sort(scores[~held] if specific else -scores[held])
    if not len(those):
        which = "other than" if specific else "labelled"
        raise Undecidable(f"no case {which} '{point.label}' is there to fix the threshold on")
    edge = abs(float(those[ceil(point.value * len(those) - 1e-9) - 1]))
    if specific:
        above = scores[scores > edge]
        next_up = nextafter(edge, 2.0)
        return max(next_up, (edge + float(above.min())) / 2) if len(above) else next_up
    below = scores[scores < edge]
    return (edge + float(below.max())) / 2 if len(below) else edge
