"""How many cases an emulated device answers: what fits the minutes, and for the gate set what its gates need."""

from __future__ import annotations

import pytest

from edgeft.gate import Gate
from edgeft.pipeline.checks.gate_sizes import Held, can_pass
from edgeft.pipeline.steps.emulation import STEPS, STRETCH, gate_cases, planned_cases


@pytest.mark.parametrize(
    ("seconds", "minutes", "cases"), [(1.0, 4.0, 192), (1.9, 4.0, 96), (60.0, 1.0, 16), (0.001, 60.0, 16384)]
)
def test_the_largest_step_that_fits_the_minutes(seconds: float, minutes: float, cases: int) -> None:
    assert planned_cases(seconds, minutes) == cases


def test_a_gate_that_can_pass_costs_no_further_case() -> None:
    assert gate_cases(128, lambda n: n >= 100) == 128


def test_a_slow_hour_takes_more_minutes_instead_of_ending_the_build() -> None:
    """91 units needed, 82 in the 128 cases that fit: what a build of 40 minutes once ended on."""
    gate = Gate(metric="accuracy", no_worse_than="source", margin=0.04)
    units = {128: 82, 192: 110, 256: 140}
    assert not can_pass([gate], Held(82, rows=128)) and can_pass([gate], Held(110, rows=192))
    assert gate_cases(128, lambda n: can_pass([gate], Held(units.get(n, 150), rows=n))) == 256, (
        "one step more than at best"
    )


def test_what_several_times_the_minutes_cannot_show_is_not_planned() -> None:
    assert gate_cases(128, lambda n: n > STRETCH * 128) == 128
    assert gate_cases(128, lambda n: n == STRETCH * 128) == STRETCH * 128 and STRETCH * 128 in STEPS


def test_a_warning_gate_asks_for_no_cases() -> None:
    assert can_pass([Gate(metric="accuracy", no_worse_than="source", margin=0.01, severity="warn")], Held(5))
