"""The target a gate holds on, by whatever name: its type, the unit or the file that the target names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeft.device.profile import Device
from edgeft.device.units import read_units
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.problems import did_you_mean


def name_gates(loaded: LoadedRecipe, devices: Mapping[str, Device]) -> LoadedRecipe:
    """The recipe with each gate's `device` as the name of its target's type, which verdicts and reports use.

    devices: type's name -> profile, in the order of the recipe's targets. Raises RecipeError for a gate on no target.
    """
    recipe = loaded.recipe
    names = {target.device: name for target, name in zip(recipe.targets, devices, strict=True)}
    gates = []
    for index, gate in enumerate(recipe.gates):
        device = gate.device
        if device is not None and device not in devices:
            if device not in names:
                raise loaded.error(("gates", index, "device"), *_unknown(device, devices, list(names)))
            device = names[device]
        gates.append(gate.model_copy(update={"device": device}))
    return replace(loaded, recipe=recipe.model_copy(update={"gates": tuple(gates)}))


def _unknown(device: str, devices: Mapping[str, Device], named: list[str]) -> tuple[str, str]:
    """(what is wrong, what to do): a unit may be meant whose type is a target, whichever unit will be free."""
    unit = read_units().get(device)
    if unit is not None and unit.type in devices:
        what = f"no target is called '{device}': it is your unit, and the target is its type, {unit.type}"
        return what, f"device: {unit.type} here holds on whichever unit is taken; or name {device} in the target too"
    return f"no target is called '{device}'", did_you_mean(device, list(dict.fromkeys([*devices, *named])), "targets")
