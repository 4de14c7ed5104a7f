"""`edgeft devices probe`: what a device says of itself, beside what its profile says."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeft.errors import DeviceError, Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeft.device.profile import Device

ABSENT = "the runtime is not installed"
"""How transports begin when a package is missing there: a finding, where any other failure ends the probe."""
COMMON = ("machine", "processor", "system", "python", "numpy", "cpus", "cpu_governor", "cpu_khz", "cpu_mhz")
"""Facts of the machine itself; the others are the runtime's."""


@dataclass
class Found:
    """machine: facts that do not depend on the runtime. runtimes: name -> its facts. missing: name -> why."""

    machine: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    runtimes: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def probe_device(args: argparse.Namespace) -> int:
    """Reach the device, print what is there and what differs. DeviceError when it cannot be reached."""
    from edgeft.device.pick import pick_unit, resolve_device

    device = resolve_device(args.name)
    with pick_unit(device, args.wait_device, lambda text: print(text, file=sys.stderr)) as bound:
        found = ask_device(bound)
        unit = bound.unit.name if bound.unit is not None else None
    fatal, other = find_differences(device, found)
    if args.json:
        about = {
            "device": device.name, "unit": unit, "machine": found.machine, "cpu_flags": found.flags,
            "runtimes": found.runtimes, "missing": found.missing, "differs": [*fatal, *other],
        }  # fmt: skip
        print(json.dumps(about, indent=1))
    else:
        _print_found(device, unit, found, [*fatal, *other])
    return int(Exit.DEVICE if fatal else Exit.OK)


def ask_device(device: Device) -> Found:
    """One describe job per runtime of the profile. A runtime that is not there is a finding; no answer is an error."""
    from edgeft.device.protocol import ArtefactRefused
    from edgeft.device.transport import runtime_file
    from edgeft.targets.measure import describe_device

    found = Found()
    for name in device.runtimes:
        try:
            runtime_file(name)
        except DeviceError as error:
            found.missing[name] = f"{error.what} in this edgeft"
            continue
        try:
            facts = describe_device(device, name)
        except DeviceError as error:
            if not isinstance(error, ArtefactRefused) and ABSENT not in error.what:
                raise
            found.missing[name] = error.what.partition(": ")[2] or error.what
            continue
        found.flags = tuple(facts.pop("cpu_flags", "").split())
        found.machine = {key: facts.pop(key) for key in COMMON if key in facts}
        found.runtimes[name] = facts
    return found


def find_differences(device: Device, found: Found) -> tuple[list[str], list[str]]:
    """(what makes the device another one than its profile says, what else differs), as sentences."""
    from edgeft.device.identity import contradictions

    fatal, other = contradictions(device, found.machine), []
    if not found.runtimes:
        fatal.append(f"runtimes: none of {', '.join(device.runtimes)} is there")
    else:
        other += [f"runtimes: {name} is not there: {why}" for name, why in found.missing.items()]
    lacking = sorted(set(device.cpu_flags) - set(found.flags)) if found.flags else []
    if lacking:
        other.append(f"cpu_flags: the device lacks {', '.join(lacking)}")
    cores = sum(cluster.cores for cluster in device.clusters)
    if cores and found.machine.get("cpus", "").isdigit() and int(found.machine["cpus"]) != cores:
        other.append(f"clusters: the profile has {cores} cores, the device {found.machine['cpus']}")
    return fatal, other + _provider_differences(device, found.runtimes.get("onnxruntime", {}))


def _provider_differences(device: Device, facts: Mapping[str, str]) -> list[str]:
    if "onnxruntime_providers" not in facts:
        return []
    there = facts["onnxruntime_providers"].split(",")
    return [f"providers: its ONNX Runtime has no {name}" for name in device.providers if name not in there]


def _print_found(device: Device, unit: str | None, found: Found, differs: list[str]) -> None:
    from edgeft.cli.devices_show import print_wrapped

    print(f"{device.name}" + (f" ({unit})" if unit else ""))
    for key, value in found.machine.items():
        print(f"  {key:<14} {value}")
    if found.flags:
        print_wrapped(f"  {'cpu_flags':<14} ", " ".join(found.flags))
    for name, facts in found.runtimes.items():
        print_wrapped(f"  {name:<14} ", ", ".join(f"{key} {value}" for key, value in facts.items()))
    for name, why in found.missing.items():
        print_wrapped(f"  {name:<14} ", f"not there: {why}")
    print("as its profile says" if not differs else "differs from its profile:")
    for line in differs:
        print_wrapped("  - ", line)
