"""Times and sizes to verdicts: only a bound on the right side of the limit decides."""

from __future__ import annotations

import numpy as np
import pytest

from edgeft.ship.check.run import overall_status
from edgeft.ship.check.verdicts import decide_latency, decide_size
from edgeft.targets.compare import Comparison, ratio_interval
from tests.check.sample import sample_verdict


def compared(low: float, middle: float, high: float, reasons: tuple[str, ...] = ()) -> Comparison:
    """By the candidate's time over the baseline's; `Comparison` holds the inverse."""
    return Comparison(10.0, 10.0 * middle, 1 / middle, (1 / high, 1 / low), 12, 900, False, reasons=reasons)


@pytest.mark.parametrize(
    ("low", "middle", "high", "status"),
    [
        (0.90, 0.95, 1.04, "PASS"),
        (1.01, 1.02, 1.0499, "PASS"),
        (1.01, 1.03, 1.06, "INCONCLUSIVE"),
        (1.04, 1.20, 1.30, "INCONCLUSIVE"),
        (1.06, 1.20, 1.30, "FAIL"),
    ],
)
def test_latency_is_decided_on_the_interval(low: float, middle: float, high: float, status: str) -> None:
    verdict = decide_latency(compared(low, middle, high), 0.05, "--latency-margin", "pi")
    assert verdict.status == status and verdict.interval == pytest.approx((low, high))
    assert verdict.limit == 1.05 and verdict.limit_from == "--latency-margin" and verdict.n == 12
    assert (verdict.needed_n is not None) == (status == "INCONCLUSIVE" and middle < 1.05), "more would not pass 1.20"


@pytest.mark.parametrize("high", [1.0, 1.2, 9.0])
def test_an_invalid_comparison_decides_nothing(high: float) -> None:
    verdict = decide_latency(compared(high * 0.9, high * 0.95, high, ("the core was slow",)), 0.05, "", "pi")
    assert verdict.status == "INCONCLUSIVE" and "INVALID: the core was slow" in verdict.why


@pytest.mark.parametrize(("candidate", "status"), [(1050, "PASS"), (1051, "FAIL"), (10, "PASS")])
def test_size_is_counted(candidate: int, status: str) -> None:
    verdict = decide_size(candidate, 1000, 0.05, "")
    assert verdict.status == status and verdict.interval == (candidate, candidate)


def test_the_worst_that_blocks_is_the_status() -> None:
    def status(*found: str) -> str:
        return overall_status([sample_verdict(one) for one in found])

    assert status("PASS", "INCONCLUSIVE", "FAIL") == "FAIL" and status("PASS", "INCONCLUSIVE") == "INCONCLUSIVE"
    assert status("PASS") == "PASS" and status() == "INCONCLUSIVE"
    assert overall_status([sample_verdict("PASS", severity="warn")]) == "INCONCLUSIVE"
    assert overall_status([sample_verdict("FAIL", severity="warn"), sample_verdict("PASS")]) == "PASS"


def test_a_candidate_slower_by_the_margin_rarely_passes() -> None:
    """At a true ratio equal to the limit a PASS is an error. Quadruples of 12, noise of 3% with a heavy tail."""
    random, trials, passed = np.random.default_rng(1), 1000, 0
    for _ in range(trials):
        noise = np.exp(0.03 * random.standard_t(3, (12, 2)))
        pairs = [(float(a), 1.05 * float(b)) for a, b in noise]
        ratio, interval = ratio_interval(pairs)
        found = Comparison(1.0, 1.05, ratio, interval, 12, 900, False)
        passed += decide_latency(found, 0.05, "", "pi").status == "PASS"
    assert passed / trials <= 0.05, f"{passed} of {trials}"
