"""Macro F1, of one model and its loss against another, where some classes are rare.

A case of a rare class moves macro F1 by much more than a common one, and a sample without a lost rare case says little
about them. So the unseen unit is charged as the case that would move the score most, whichever class it is of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate.bootstrap import macro_f1, macro_f1_sums
from edgeft.evaluate.statistics import Bound
from edgeft.evaluate.unseen import bound_with_unseen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Units = NDArray[Any]


def bound_macro_f1(truth: Indices, predictions: Indices, classes: int, units: Units, alpha: float) -> Bound:
    """Bounds, each one-sided at alpha, of macro F1. truth, predictions: (n,) label indices."""
    rows = macro_f1_sums(truth, predictions, classes)
    scale = _worst_case(rows, truth, classes, units)
    return bound_with_unseen(rows, macro_f1, units, alpha, scale=scale)


def bound_macro_f1_loss(
    truth: Indices, source: Indices, artefact: Indices, classes: int, units: Units, alpha: float
) -> Bound:
    """Bounds, each one-sided at alpha, of the macro F1 of the source less that of the artefact, on the same rows."""
    import numpy as np

    before, after = macro_f1_sums(truth, source, classes), macro_f1_sums(truth, artefact, classes)

    def loss(sums: Floats) -> Floats:
        given, left = np.split(sums, 2, axis=-1)
        return macro_f1(given) - macro_f1(left)

    scale = max(_worst_case(rows, truth, classes, units) for rows in (before, after))
    return bound_with_unseen(np.concatenate([before, after], axis=1), loss, units, alpha, scale=scale)


def _worst_case(rows: Floats, truth: Indices, classes: int, units: Units) -> float:
    """What macro F1 changes, per weight of the unit, when an average unit's rows of one class are answered with the
    rarest other class instead of their own: over all classes that occur, the most."""
    import numpy as np

    total, count = rows.sum(axis=0), len(np.unique(units))
    seen = np.unique(truth)
    occurring = np.flatnonzero(np.bincount(truth, minlength=classes) + total[classes : 2 * classes])
    if len(occurring) < 2:
        return 1.0
    rarity = (total[classes : 2 * classes] + total[2 * classes :])[occurring]
    rarest = occurring[np.argsort(rarity, kind="stable")[:2]]
    other = np.where(seen == rarest[0], rarest[1], rarest[0])
    size = len(rows) / count
    wrong, right = (total + size * macro_f1_sums(seen, answer, classes) for answer in (other, seen))
    return max(1.0, float(count * (macro_f1(right) - macro_f1(wrong)).max()))
