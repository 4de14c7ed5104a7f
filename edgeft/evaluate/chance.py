"""How likely a candidate is to pass a gate on a gate set that nobody has seen, judged by its answers on the search set.

A search picks the cheapest of many candidates, and what looks just good enough there fails about every second gate. So
it asks for a chance instead: the predictive probability (assurance, O'Hagan et al. 2005, Pharmaceutical Statistics 4)
that the gate's own bound on as many cases as the gate set has will be on the right side of its limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.quantities import Quantity, quantity_for
from edgeft.evaluate.statistics import Undecidable
from edgeft.evaluate.unconditional import most_lost

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.gate import Gate
    from edgeft.task import Score


def chance_to_pass(
    gate: Gate,
    artefact: Score,
    source: Score | None,
    units: NDArray[Any],
    gate_rows: int,
    *,
    truth: NDArray[np.int64] | None = None,
    custom: CustomValues | None = None,
) -> float:
    """Probability in [0, 1]; artefact, source, units, truth and custom are of the search set, as a gate takes them.

    gate_rows: cases the gate set has. 0.0 where the quantity cannot be had, as the gate then fails closed. Of a gate
    with `by` these are the cases of one subgroup.
    """
    try:
        quantity = quantity_for(gate, artefact, source, units, truth, custom)
    except Undecidable:
        return 0.0
    gate_rows = max(1, round(gate_rows * quantity.bound.n / len(units)))
    if gate.metric != "macro_f1" and gate.no_worse_than and quantity.counts is not None:
        return chance_of_flips(*quantity.counts, quantity, gate_rows, 1 - gate.confidence)
    return chance_of_bound(quantity, gate_rows, 1 - gate.confidence)


def chance_of_flips(lost: int, gained: int, quantity: Quantity, gate_rows: int, alpha: float) -> float:
    """For a paired loss of accuracy: lost and gained cases of the gate set are beta-binomial, with Jeffreys' prior and
    what was seen on the search set; the gate passes where its bound does (unconditional.bound_loss). Of independent
    cases Tango's limit stands for the exact one, which follows it closely, and Clopper and Pearson's, which the exact
    one is where nothing is gained.

    The two counts are taken as independent. Clustered rows count as many as their effective number.
    """
    import numpy as np

    seen, share = quantity.bound.effective, quantity.bound.effective / quantity.bound.n
    rows = max(1, round(gate_rows * share))
    few = np.arange(min(rows, 4000) + 1)
    chance_lost = np.cumsum(_beta_binomial(few, rows, lost * share, seen))
    chance_gained = _beta_binomial(few, rows, gained * share, seen)
    if quantity.units == quantity.bound.n:
        alone = np.searchsorted(_exact(few, rows, alpha)[0], quantity.limit + few / rows + 1e-12, side="right") - 1
        most = np.minimum(alone, most_lost(few, rows, quantity.limit, alpha))
    else:
        uppers, lowers = _exact(few, rows, alpha / 2)
        most = np.searchsorted(uppers, quantity.limit + lowers + 1e-12, side="right") - 1
    passes = np.where(most >= 0, chance_lost[np.clip(most, 0, None)], 0.0)
    return min(1.0, float(chance_gained @ passes))


def chance_of_bound(quantity: Quantity, gate_rows: int, alpha: float) -> float:
    """For any other quantity: the estimate on the gate set is normal around the one on the search set, with both sets'
    errors; the error of one case follows from the width of the bound."""
    from math import sqrt

    from scipy.special import ndtr, ndtri

    bound = quantity.bound
    room = quantity.limit - bound.estimate if quantity.upper else bound.estimate - quantity.limit
    width = bound.high - bound.estimate if quantity.upper else bound.estimate - bound.low
    ratio = bound.n / max(1, gate_rows)
    error = width / float(ndtri(1 - alpha))
    if error <= 0:
        return 1.0 if room >= 0 else 0.0
    return float(ndtr((room - width * sqrt(ratio)) / (error * sqrt(1 + ratio))))


def _beta_binomial(counts: NDArray[np.int64], rows: int, hits: float, seen: float) -> NDArray[np.float64]:
    """Probabilities of counts among `rows` after `hits` among `seen`."""
    import numpy as np
    from scipy.special import betaln, gammaln

    a, b = hits + 0.5, seen - hits + 0.5
    ways = gammaln(rows + 1) - gammaln(counts + 1) - gammaln(rows - counts + 1)
    found: NDArray[np.float64] = np.exp(ways + betaln(counts + a, rows - counts + b) - betaln(a, b))
    return found


def _exact(counts: NDArray[np.int64], rows: int, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clopper-Pearson (upper, lower) of each count, as statistics.clopper_pearson gives them one by one."""
    import numpy as np
    from scipy.special import betaincinv

    inner = np.clip(counts, 0, rows - 1)
    uppers = np.where(counts >= rows, 1.0, betaincinv(inner + 1, rows - inner, 1 - alpha))
    first = np.clip(counts, 1, None)
    lowers = np.where(counts <= 0, 0.0, betaincinv(first, rows - first + 1, alpha))
    return uppers, lowers
