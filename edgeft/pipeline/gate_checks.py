"""Gates before anything runs: measurable where they hold, decidable at this n, one at least for every target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeft.canonical import Facts
from edgeft.device.profile import Device
from edgeft.errors import EdgeftError, RecipeError
from edgeft.evaluate.statistics import NEEDED_CAP
from edgeft.gate import LATENCY_METRICS, RESOURCE_METRICS, Gate
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.problems import did_you_mean
from edgeft.task import Task, has_metric


def check_gates(loaded: LoadedRecipe, devices: Mapping[str, Device], task: Task) -> None:
    """Each gate is measurable on its devices and decidable by some number of cases, and each target has one."""
    _check_every_target_is_gated(loaded, devices)
    for index, gate in enumerate(loaded.recipe.gates):
        if gate.released:
            raise loaded.error(("gates", index, "no_worse_than"), f"'{gate.no_worse_than}' is not source")
        if gate.severity == "block":
            _needed(loaded, index, NEEDED_CAP)
        held = [gate.device] if gate.device else list(devices)
        if gate.metric in LATENCY_METRICS | {"peak_memory_mb"}:
            for name in held:
                if devices[name].how == "emulated":
                    raise loaded.error(
                        ("gates", index, "metric"),
                        f"{gate.metric} cannot be measured on {name}, which is emulated",
                        "say `device:` with a real target in this gate",
                    )
        elif gate.metric in RESOURCE_METRICS or has_metric(task, gate.metric):
            continue
        elif ":" in gate.metric:
            from edgeft.tasks.custom_metric import check_metric

            try:
                check_metric(gate.metric)
            except EdgeftError as error:
                raise loaded.error(("gates", index, "metric"), error.what, error.hint) from error
        else:
            known = [*task.metrics, *task.gated, *task.families, *sorted(RESOURCE_METRICS), "file.py:function"]
            raise loaded.error(
                ("gates", index, "metric"),
                f"{task.name} has no metric '{gate.metric}'",
                did_you_mean(gate.metric, known, "known"),
            )


def check_gate_set(loaded: LoadedRecipe, dataset: Facts) -> None:
    """Each gate must be able to pass at this n even when nothing flips; the needed n is named otherwise."""
    about = dataset["splits"]["gate"]
    for index, gate in enumerate(loaded.recipe.gates):
        if not gate.needs_gate_set or gate.severity == "warn":
            continue
        needed = _needed(loaded, index, about["units"])
        if needed is not None:
            unit = "cases" if dataset["unit"] == "row" else f"units ({dataset['unit']})"
            raise loaded.error(
                ("gates", index),
                f"'{gate.describe()}' cannot pass on {about['units']} {unit}: even with no case lost it needs {needed}",
                "give the gate set more rows (data.fractions.gate), or widen the margin if the application allows it",
            )


def can_pass(gates: Sequence[Gate], units: int) -> bool:
    """Whether every blocking gate could pass on so many units, were nothing lost."""
    from edgeft.evaluate.gates import needed_at_best

    return all(gate.severity != "block" or needed_at_best(gate, units) is None for gate in gates)


def check_planned(loaded: LoadedRecipe, gates: Sequence[Gate], device: str, cases: int, units: int) -> None:
    """An emulated device answers part of the gate set: each gate must be able to pass on that part."""
    from edgeft.evaluate.gates import needed_at_best

    for gate in gates:
        needed = needed_at_best(gate, units) if gate.severity == "block" else None
        if needed is not None:
            raise loaded.error(
                ("gates", loaded.recipe.gates.index(gate)),
                f"'{gate.describe()}' cannot pass on {device}: {loaded.recipe.measure.emulated_minutes:g} minutes "
                f"allow too few cases, {cases} in {units} units; even with no case lost it needs {needed} units",
                "raise measure.emulated_minutes, or widen the margin on this device if the application allows it",
            )


def _needed(loaded: LoadedRecipe, index: int, units: int) -> int | None:
    """`needed_at_best` of a gate; what no number of cases can show is an error at the gate's place in the recipe."""
    from edgeft.evaluate.gates import needed_at_best

    try:
        return needed_at_best(loaded.recipe.gates[index], units)
    except RecipeError as error:
        raise loaded.error(("gates", index), error.what, error.hint) from error


def _check_every_target_is_gated(loaded: LoadedRecipe, devices: Mapping[str, Device]) -> None:
    """What no gate can refuse would ship unseen."""
    blocking = [gate for gate in loaded.recipe.gates if gate.severity == "block"]
    for index, name in enumerate(devices):
        if not any(gate.device in (None, name) for gate in blocking):
            raise loaded.error(
                ("targets", index),
                f"no gate can stop what is made for {name}",
                "add a gate without `device:`, or one for this target, that is not `severity: warn`",
            )
