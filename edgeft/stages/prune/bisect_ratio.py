"""The smallest pruning ratio that meets a latency budget, by bisection over real measurements. Pure."""

from __future__ import annotations

from collections.abc import Callable

from edgeft.record import RatioTrial

RESOLUTION = 0.02


class OutOfReach(ValueError):
    """Even the largest ratio is too slow. least: the fastest time seen, ms."""

    def __init__(self, least: float, most: float) -> None:
        super().__init__(f"{least:.2f} ms at ratio {most:g}")
        self.least, self.most = least, most


def bisect_ratio(
    measure: Callable[[float], RatioTrial], budget_ms: float, most: float
) -> tuple[float, list[RatioTrial]]:
    """(ratio, every trial in order). 0 where the unpruned model meets the budget already; most: the largest ratio that
    can be cut. Latency is taken to fall with the ratio; the answer met the budget when it was measured, and is at most
    RESOLUTION above one that did not. Raises OutOfReach.
    """
    trials = [measure(0.0)]
    if trials[0].p50_ms <= budget_ms:
        return 0.0, trials
    trials.append(measure(most))
    if trials[-1].p50_ms > budget_ms:
        raise OutOfReach(min(trial.p50_ms for trial in trials), most)
    low, high = 0.0, most
    while high - low > RESOLUTION:
        middle = round((low + high) / 2, 3)
        trials.append(measure(middle))
        low, high = (low, middle) if trials[-1].p50_ms <= budget_ms else (middle, high)
    return high, trials
