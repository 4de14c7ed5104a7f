"""What a gate may say together: each rule raises ValueError with the words a reader of the recipe needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.metric_names import (
    CASE_METRICS,
    FLIP_RATE,
    OPEN_METRICS,
    RATE_FAMILIES,
    RESOURCE_METRICS,
    SURFACE_DICE,
    is_own,
    lower_is_better,
)

if TYPE_CHECKING:
    from edgeft.gate import Gate


def check_condition(gate: Gate) -> None:
    """One limit, of a kind that goes with the metric."""
    given = [name for name in ("at_least", "at_most", "no_worse_than") if getattr(gate, name) is not None]
    if len(given) != 1:
        raise ValueError("give exactly one of at_least, at_most, no_worse_than")
    if gate.no_worse_than and gate.margin is None:
        raise ValueError("no_worse_than needs a margin")
    if gate.margin is not None and not gate.no_worse_than:
        raise ValueError("margin goes with no_worse_than")
    if gate.at_least is not None and lower_is_better(gate.metric):
        raise ValueError(f"{gate.metric} is better when lower: use at_most")


def check_resource(gate: Gate) -> None:
    """A limit on what an artefact costs."""
    if gate.metric not in RESOURCE_METRICS:
        return
    if gate.no_worse_than:
        raise ValueError(f"{gate.metric} has no source value to compare with: use at_most")
    if gate.at_most is not None and gate.at_most <= 0:
        raise ValueError(f"{gate.metric} is never {gate.at_most:g} or less: no artefact could pass")
    if gate.by is not None:
        raise ValueError(f"{gate.metric} does not depend on the case: by goes with metrics of the data")
    if gate.unit is not None:
        raise ValueError(f"{gate.metric} does not depend on the case: unit goes with metrics of the data")


def check_data(gate: Gate) -> None:
    """Share of changed cases, share of losing cases."""
    if gate.metric == FLIP_RATE and gate.no_worse_than:
        raise ValueError("flip_rate compares with the source by itself: use at_most")
    if gate.cases_losing is None:
        return
    if gate.at_most is None:
        raise ValueError("cases_losing needs at_most: the share of cases that may lose so much")
    if not (gate.metric.startswith(CASE_METRICS) or ":" in gate.metric):
        raise ValueError(f"{gate.metric} has no value per case to lose: cases_losing goes with mean_dice and its like")
    if gate.cases_losing >= 1 and not (gate.metric.startswith(OPEN_METRICS) or ":" in gate.metric):
        raise ValueError(f"no case loses {gate.cases_losing:g} of {gate.metric}: cases_losing must be below 1")


def check_masks(gate: Gate) -> None:
    """What metrics in mm need besides."""
    surface = gate.metric.startswith(SURFACE_DICE)
    if surface and gate.tolerance_mm is None:
        raise ValueError(f"{gate.metric} needs tolerance_mm: how far apart two borders may lie and still agree")
    if gate.tolerance_mm is not None and not surface:
        raise ValueError(f"tolerance_mm goes with surface_dice, not with {gate.metric}")


def check_range(gate: Gate) -> None:
    """A mean of values that have no known largest one needs the value from which on none counts for more."""
    unbounded, own = gate.metric.startswith(OPEN_METRICS), is_own(gate.metric)
    if gate.cases_losing is None and gate.at_worst is None and (unbounded or own):
        least = "how large the values of a metric of your own can be is not known"
        least = least if own else f"{gate.metric} has no largest value"
        example = ", for instance 1 where values are from 0 to 1" if own else ""
        raise ValueError(
            f"{least}, so no number of cases bounds {'their' if own else 'its'} mean: say at_worst, above which no "
            f"case counts for more{example}, or cases_losing with at_most"
        )
    if gate.at_worst is not None and not ((unbounded or own) and gate.cases_losing is None):
        raise ValueError("at_worst goes with the mean of hd95_mm, volume_ml_error, nll or a metric of your own")
    if gate.at_worst is not None and gate.at_least is not None and gate.at_least >= gate.at_worst:
        raise ValueError(f"no case counts for more than at_worst {gate.at_worst:g}: at_least must be below it")
    if gate.at_worst is not None and gate.at_most is not None and gate.at_most >= gate.at_worst:
        raise ValueError(f"no case counts for more than at_worst {gate.at_worst:g}: at_most must be below it")
    if gate.at_worst is not None and gate.margin is not None and gate.margin >= gate.at_worst:
        raise ValueError(f"no case counts for more than at_worst {gate.at_worst:g}: the margin must be below it")


def check_point(gate: Gate) -> None:
    """A threshold of the source goes with sensitivity and specificity."""
    if gate.at_specificity is None and gate.at_sensitivity is None:
        return
    if gate.at_specificity is not None and gate.at_sensitivity is not None:
        raise ValueError("give at_specificity or at_sensitivity: one of them fixes the threshold")
    if not gate.metric.startswith(RATE_FAMILIES):
        raise ValueError(f"a threshold decides sensitivity_LABEL and specificity_LABEL, not {gate.metric}")
    if gate.released is not None:
        raise ValueError(
            "the threshold is the source's own: a released bundle has another; compare with the source, or leave "
            "at_specificity and at_sensitivity out"
        )


CHECKS = (check_condition, check_resource, check_data, check_masks, check_range, check_point)
"""In the order in which they are asked."""
