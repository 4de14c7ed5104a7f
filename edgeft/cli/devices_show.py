"""`edgeft devices list` and `show`."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeft.device.profile import Device, Unit

NARROWEST = 60


def list_devices(args: argparse.Namespace) -> int:
    """Types, then the user's units and who uses them."""
    from edgeft.device.profile import load_device, shipped_devices
    from edgeft.device.units import read_units, units_path

    devices = [load_device(name) for name in shipped_devices()]
    units = list(read_units().values())
    if args.json:
        rows = [device.model_dump(mode="json") for device in devices]
        print(json.dumps({"types": rows, "units": [_unit_row(unit) for unit in units]}, indent=1))
        return 0
    _print_table(
        [("TYPE", "FIGURES", "REACHED BY", "PREPARED", "RUNTIMES")]
        + [
            (device.name, device.how, device.transport, _prepared(device), ", ".join(device.runtimes))
            for device in devices
        ]
    )
    print("  prepared: `edgeft devices prepare TYPE` assembled its runtime folder; `show TYPE` says who shares it")
    print(f"\nyour units ({units_path()}):")
    if not units:
        print("  none; add one: edgeft devices add NAME --type raspberry-pi-5 --host pi@kitchen.local")
        return 0
    _print_table([("NAME", "TYPE", "WHERE", "STATE")] + [(u.name, u.type, _where(u), _state(u)) for u in units])
    return 0


def show_device(args: argparse.Namespace) -> int:
    """Every field of a profile, and beneath it where it comes from; for a unit also where it is."""
    from edgeft.device.pick import resolve_device
    from edgeft.device.relations import folder_lines

    device = resolve_device(args.name)
    if args.json:
        unit = {} if device.unit is None else {"unit": _unit_row(device.unit)}
        print(json.dumps({**device.model_dump(mode="json"), **unit}, indent=1))
        return 0
    print(f"{device.name}: {device.description}" if device.description else device.name)
    if device.unit is not None:
        print(f"  {'unit':<16} {device.unit.name}, {_where(device.unit)}, {_state(device.unit)}")
    for key, said in describe_fields(device):
        print_wrapped(f"  {key:<16} ", said)
        if key in device.sources:
            print_wrapped(f"  {'':<16}   from: ", device.sources[key])
    for line in folder_lines(device):
        print_wrapped("  ", line)
    if not device.times_count:
        print("  latency here says nothing about the device, and is refused")
    return 0


def describe_fields(device: Device) -> list[tuple[str, str]]:
    """(field, value as a person would say it) of what the profile states."""
    said = []
    for key, value in device.model_dump(mode="json", exclude={"name", "description", "sources"}).items():
        if key == "clusters":
            text = ", ".join(f"{c.cores} x {c.name}" + (f" at {c.mhz} MHz" if c.mhz else "") for c in device.clusters)
        elif isinstance(value, dict):
            text = "; ".join(
                f"{name}: {', '.join(f'{k}={v}' for k, v in options.items())}" for name, options in value.items()
            )
        elif isinstance(value, list):
            text = ", ".join(str(item) for item in value)
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = "" if value is None else str(value)
        if text:
            said.append((key, text))
    return said


def _unit_row(unit: Unit) -> dict[str, Any]:
    from dataclasses import asdict

    from edgeft.device.lease import read_holder

    holder = read_holder(unit)
    used = asdict(holder) if holder is not None and holder.lives() else None
    return {**unit.model_dump(mode="json", exclude_none=True), "used_by": used}


def _prepared(device: Device) -> str:
    """Whether its runtime folder is there; `-` where it has none."""
    from edgeft.device.relations import made_folder, takes_folder

    return ("yes" if made_folder(device) else "no") if takes_folder(device) else "-"


def _where(unit: Unit) -> str:
    if unit.host is not None:
        return f"ssh {unit.host}" + (f" port {unit.port}" if unit.port else "")
    return f"adb {unit.serial}" if unit.serial else "not stated"


def _state(unit: Unit) -> str:
    from edgeft.device.lease import read_holder

    holder = read_holder(unit)
    return f"in use by {holder.describe()}" if holder is not None and holder.lives() else "free"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def print_wrapped(head: str, text: str) -> None:
    """One paragraph, its later lines set in under its first."""
    width = max(NARROWEST, shutil.get_terminal_size((120, 24)).columns)
    lines = textwrap.wrap(text, width - len(head), break_on_hyphens=False) or [""]
    print("\n".join([head + lines[0], *(" " * len(head) + line for line in lines[1:])]))
