"""From the name in a recipe to a machine: a type, or one of your units, and a lease on it while it is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeft.device.lease import Lease, read_holder, take_lease
from edgeft.device.profile import Device, Unit, bind_unit, load_device, shipped_devices
from edgeft.device.units import check_unit, read_units, units_path
from edgeft.errors import DeviceError, RecipeError

OnWait = Callable[[str], None]
POLL = 0.5
"""Seconds between two looks at a unit that is in use."""


def ignore_wait(text: str) -> None:
    """For callers that show nothing."""


def resolve_device(name: str) -> Device:
    """A device type, the path of one's file, or a unit's name: the profile, bound to the unit where one is named.

    The profile's name stays that of the type. Raises RecipeError with a near name.
    """
    from difflib import get_close_matches

    shipped = shipped_devices()
    if name in shipped or Path(name).suffix in (".yaml", ".yml"):
        return load_device(name)
    units = read_units()
    if name in units:
        return bind_unit(check_unit(units[name]), units[name])
    near = get_close_matches(name, [*shipped, *units], n=1)
    said = f"did you mean '{near[0]}'?" if near else f"device types: {', '.join(shipped)};"
    yours = f"your units: {', '.join(units)}" if units else "no units of your own yet"
    raise RecipeError(
        f"no device is called '{name}'", hint=f"{said} {yours}; a type of your own: the path of its YAML file"
    )


def find_units(device: Device) -> list[Unit]:
    """The units that can stand for a device: the one it is bound to, else all of its type, by name."""
    if device.unit is not None:
        return [device.unit]
    return [unit for unit in read_units().values() if device.name in (unit.type, Path(unit.type).stem)]


def require_units(device: Device) -> list[Unit]:
    """As `find_units`, checked against the profile; DeviceError says how to add one where there is none."""
    units = find_units(device)
    if not units:
        place = "--host pi@kitchen.local" if device.transport == "ssh" else "--serial SERIAL"
        raise DeviceError(
            f"there is no {device.name} among your units ({units_path()})",
            hint=f"edgeft devices add NAME --type {device.name} {place}",
        )
    for unit in units:
        check_unit(unit)
    return units


@contextmanager
def pick_unit(device: Device, wait_seconds: float = 0.0, on_wait: OnWait = ignore_wait) -> Iterator[Device]:
    """A free unit of the device's type, leased to this process until the end of the block.

    Local, emulated and carried devices have no unit: they come back as they are. on_wait hears who holds what, once per
    holder. Raises DeviceError when there is no unit, or none became free within `wait_seconds`.
    """
    if not device.needs_unit:
        yield device
        return
    unit, lease = _wait(device, require_units(device), wait_seconds, on_wait)
    try:
        yield bind_unit(device, unit)
    finally:
        lease.release()


def _wait(device: Device, units: Sequence[Unit], wait_seconds: float, on_wait: OnWait) -> tuple[Unit, Lease]:
    end, told = time.monotonic() + wait_seconds, ""
    while True:
        for unit in units:
            lease = take_lease(unit)
            if lease is not None:
                return unit, lease
        busy = "; ".join(_busy(unit) for unit in units)
        left = end - time.monotonic()
        if left <= 0:
            waited = f" after {wait_seconds:g} s" if wait_seconds else ""
            raise DeviceError(
                f"no {device.name} is free{waited}: {busy}",
                hint="--wait-device 10m waits for it" if not wait_seconds else "wait longer, or add another unit",
            )
        if busy != told:
            told = busy
            on_wait(f"waiting up to {wait_seconds:g} s for {device.name}: {busy}")
        time.sleep(min(POLL, left))


def _busy(unit: Unit) -> str:
    holder = read_holder(unit)
    return f"{unit.name} is in use by {holder.describe()}" if holder else f"{unit.name} is in use"
