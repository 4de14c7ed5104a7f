"""Devices that a person carries jobs to: a build makes and weighs what is for them, and says what it cannot know."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence

from edgeft.device.identity import MACHINES
from edgeft.device.profile import Device, load_device, shipped_devices
from edgeft.gate import Gate, Verdict
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Target

ON_A_MAC = "a build on a Mac, for a device of your own (os: macos, transport: local, runtimes: [coreml])"


def check_by_hand(loaded: LoadedRecipe, index: int, device: Device) -> None:
    """RecipeError where target `index`, on a device reached by hand, asks for what only a run there could tell."""
    target, name = loaded.recipe.targets[index], device.name
    where: tuple[str | int, ...] = ("targets", index)
    if target.optimise != "size":
        what = f"{name} is reached by hand, nothing is timed there: the fastest cannot be told"
        raise loaded.error((*where, "optimise"), what, "optimise: size")
    if target.searches:
        what = f"{name} is reached by hand: a search needs answers from there"
        raise loaded.error((*where, "search" if target.search else "budget"), what, "leave it out: the ladder is tried")
    gates = [gate for gate in loaded.recipe.gates if gate.device in (None, name) and gate.severity == "block"]
    if not any(gate.needs_gate_set for gate in gates):
        what = f"nothing is run on {name}, and no gate asks for its answers: it would pass on its size alone"
        raise loaded.error(where, what, "add a gate on answers, such as accuracy, that is not `severity: warn`")


def knowable(gates: Sequence[Gate], device: Device) -> list[Gate]:
    """The gates that a candidate can be held against before the gate set: of what is not run only the size is known."""
    from edgeft.evaluate.gates import COUNTED_METRICS

    return [gate for gate in gates if not device.by_hand or gate.metric in COUNTED_METRICS]


def not_run(gate: Gate, target: str) -> Verdict:
    """The verdict of a gate that would need a run on a device reached by hand."""
    why = f"not run: {target} is reached by hand, its {gate.subject} is not known"
    return gate.answer(target, "INCONCLUSIVE", why)


def what_is_left(target: Target, device: Device) -> str:
    """What was not measured on a device reached by hand, and who can; empty for one that a build reaches."""
    if not device.by_hand:
        return ""
    head = f"exported and sized only, nothing was run on {device.name}: no answers, no times, no memory"
    if device.os == "ios":
        return f"{head}. Core ML predicts on Apple systems only; answers: {ON_A_MAC}"
    alike = " or ".join(_alike(device))
    answers = f"; answers: a build for {alike}" if alike else ""
    return f"{head}. Times: edgeft profile BUNDLE --device {target.device} --pack job.zip{answers}"


def left_notes(loaded: LoadedRecipe, devices: Mapping[str, Device]) -> Iterator[str]:
    """The same of every target, with what follows for the build; devices in the order of the recipe's targets."""
    for target, device in zip(loaded.recipe.targets, devices.values(), strict=True):
        if left := what_is_left(target, device):
            yield f"{left}. So the build ends INCONCLUSIVE, for every target"


def _alike(device: Device) -> list[str]:
    """Shipped devices with its instruction set and a runtime of its own, which a build can reach."""
    here = platform.machine().lower() in MACHINES.get(device.architecture, ())
    return [
        name
        for name in shipped_devices()
        if (other := load_device(name)).transport in ("local", "ssh")
        and set(device.runtimes) & set(other.runtimes)
        and (other.architecture == device.architecture or (other.architecture == "host" and here))
    ]
