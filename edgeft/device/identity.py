"""Whether a machine can be the one that a profile describes: instruction set and operating system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeft.device.profile import Device

MACHINES = {"x86_64": ("x86_64", "amd64"), "aarch64": ("aarch64", "arm64")}
"""Architecture of a profile -> what such a machine calls itself, in small letters."""
SYSTEMS = {
    "linux": ("linux",), "android": ("android", "linux"), "macos": ("darwin", "macos"), "windows": ("windows",),
    "ios": ("ios", "darwin", "macos"),
}  # fmt: skip


def contradictions(device: Device, facts: Mapping[str, str]) -> list[str]:
    """What the machine says of itself (`machine`, `system` of a describe job) against its profile, as sentences.

    A fact that is missing contradicts nothing, and a profile of `host` takes any machine.
    """
    found, machine, system = [], facts.get("machine", ""), facts.get("system", "").split()
    if machine and machine.lower() not in MACHINES.get(device.architecture, (machine.lower(),)):
        found.append(f"architecture: the profile says {device.architecture}, the device {machine}")
    if system and system[0].lower() not in SYSTEMS.get(device.os, (system[0].lower(),)):
        found.append(f"os: the profile says {device.os}, the device {' '.join(system)}")
    return found
