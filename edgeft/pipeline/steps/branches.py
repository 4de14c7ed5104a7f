"""The branches as store steps, in the order they run."""

from __future__ import annotations

from edgeft.pipeline.spec import Spec
from edgeft.pipeline.steps.candidates import Candidate
from edgeft.pipeline.steps.emulation import pace_spec
from edgeft.pipeline.steps.making import calibrate_spec, compress_spec, export_spec, needs_statistics
from edgeft.pipeline.steps.measuring import latency_spec, operators_spec, outputs_spec, parity_spec
from edgeft.pipeline.steps.trunk import Trunk
from edgeft.recipe.schema import Recipe


def making_specs(candidate: Candidate, trunk: Trunk, recipe: Recipe) -> list[Spec]:
    """Make the artefact; a float one is also proven equal to its model, where it can be run.

    Several candidates may need the same statistics: each names that step.
    """
    if candidate.variant is not None:
        statistics = [calibrate_spec(candidate, trunk.model, recipe)] if needs_statistics(candidate) else []
        return [*statistics, compress_spec(candidate, trunk.model, recipe)]
    parity = [parity_spec(candidate, trunk.model, recipe)] if candidate.runs else []
    return [export_spec(candidate, trunk.model, recipe), *parity]


def running_specs(candidate: Candidate, recipe: Recipe) -> list[Spec]:
    """Run it over the search set and, where times mean something, time it; nothing on a device reached by hand."""
    if not candidate.runs:
        return []
    outputs = outputs_spec(candidate, recipe, "search")
    if candidate.emulated:
        return [pace_spec(candidate, recipe), outputs]
    if not candidate.is_timed(recipe):
        return [outputs]
    return [outputs, latency_spec(candidate, recipe), operators_spec(candidate, recipe)]


def candidate_specs(candidate: Candidate, trunk: Trunk, recipe: Recipe) -> list[Spec]:
    """Every step that one candidate takes before the choice, in order."""
    return [*making_specs(candidate, trunk, recipe), *running_specs(candidate, recipe)]
