"""Which device types share a prepared folder, and which emulated type has the cores of a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.device.prepare import MANIFEST, folder_place, machine, needs_folder
from edgeft.device.profile import load_device, shipped_devices

if TYPE_CHECKING:
    from pathlib import Path

    from edgeft.device.profile import Device


def takes_folder(device: Device) -> bool:
    """Whether a prepared folder is of use: to an emulated device of another architecture, a board, a phone."""
    if device.transport == "emulated":
        return needs_folder(device)
    return device.transport in ("ssh", "adb") and device.architecture != "host"


def made_folder(device: Device) -> Path | None:
    """The device's prepared folder where it is there; its files are not checked."""
    folder = folder_place(device) if takes_folder(device) else None
    return folder if folder is not None and (folder / MANIFEST).is_file() else None


def folder_mates(device: Device) -> list[str]:
    """Other shipped types that use the same folder: of the same architecture and with the same runtimes."""
    if not takes_folder(device):
        return []
    place = folder_place(device)
    return [other.name for other in _others(device) if takes_folder(other) and folder_place(other) == place]


def stand_ins(device: Device) -> list[str]:
    """Emulated types whose core is among this device's: they answer as it does, to the kernels, and time nothing."""
    return [other.name for other in _others(device) if _imitates(other, device)]


def imitated(device: Device) -> list[str]:
    """Real types with the core that this emulated one imitates."""
    return [other.name for other in _others(device) if _imitates(device, other)]


def folder_lines(device: Device) -> list[str]:
    """What a person must know of the folder and of related types, as sentences; none where there is nothing to say."""
    lines = []
    if takes_folder(device):
        made, mates = made_folder(device), folder_mates(device)
        also = f"; {', '.join(mates)} use{'s' if len(mates) == 1 else ''} the same folder" if mates else ""
        lines.append(f"prepared: {made}{also}" if made else f"not prepared: edgeft devices prepare {device.name}{also}")
        if device.transport == "ssh":
            lines.append("a unit with a Python and the runtimes of its own needs no folder")
    elif device.transport == "emulated":
        lines.append(f"nothing to prepare: under qemu it runs this {machine()} machine's own Python and runtimes")
    if stand_in := stand_ins(device):
        lines.append(f"same core, emulated here: {', '.join(stand_in)}; its accuracy can be gated without the device")
    if real := imitated(device):
        lines.append(f"has the core of {', '.join(real)}; it is a type of its own, with a folder of its own runtimes")
    return lines


def _imitates(emulated: Device, real: Device) -> bool:
    cores = {cluster.name.lower() for cluster in real.clusters}
    return emulated.transport == "emulated" and str(emulated.emulate).lower() in cores


def _others(device: Device) -> list[Device]:
    return [load_device(name) for name in shipped_devices() if name != device.name]
