"""Devices that are not this machine: take a unit, ask what it is, refuse in the first seconds what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft import plugins
from edgeft.canonical import canonical_json
from edgeft.device.identity import MACHINES
from edgeft.device.profile import Device
from edgeft.errors import DeviceError
from edgeft.pipeline.host import tool_version
from edgeft.pipeline.steps.candidates import DeviceFacts
from edgeft.recipe.load import LoadedRecipe
from edgeft.store import Store

LARGEST_MEMO = 1 << 20


@dataclass
class Fleet:
    """devices: as bound to units. facts: device -> runtime -> what it said."""

    devices: dict[str, Device]
    facts: dict[str, dict[str, DeviceFacts]] = field(default_factory=dict)


@contextmanager
def reach(
    loaded: LoadedRecipe,
    devices: Mapping[str, Device],
    store: Store,
    wait_seconds: float = 0.0,
    on_wait: Callable[[str], None] = lambda text: None,
) -> Iterator[Fleet]:
    """Hold a lease on a unit of each device that needs one, and know its facts. Raises DeviceError."""
    from edgeft.device.pick import pick_unit

    fleet = Fleet(dict(devices))
    with ExitStack() as held:
        for target, (name, device) in zip(loaded.recipe.targets, devices.items(), strict=True):
            if device.transport in ("local", "carried"):  # a person goes there, not this process
                continue
            if device.needs_unit:
                fleet.devices[name] = held.enter_context(pick_unit(device, wait_seconds, on_wait))
            runtimes = dict.fromkeys(plugins.load("exporters", exporter)().runtime for exporter in target.export)
            fleet.facts[name] = {runtime: _facts(fleet.devices[name], runtime, store) for runtime in runtimes}
        yield fleet


def known_fleet(devices: Mapping[str, Device], store: Store) -> Fleet:
    """What was last known, without reaching anything: for `edgeft plan`."""
    facts: dict[str, dict[str, DeviceFacts]] = {}
    for name, device in devices.items():
        if device.transport != "local":
            memo = _read(_place(store, device))
            facts[name] = {runtime: dict(row["facts"]) for runtime, row in memo.items()}
    return Fleet(dict(devices), facts)


def _facts(device: Device, runtime: str, store: Store) -> DeviceFacts:
    """Ask the device; an emulated one whose parts have not changed since answers the same, so it is asked once."""
    from edgeft.targets.measure import describe_device

    place = _place(store, device)
    memo = _read(place)
    stamp = _stamp(device, runtime)
    kept = memo.get(runtime, {})
    if stamp and kept.get("stamp") == stamp:
        return dict(kept["facts"])
    facts = describe_device(device, runtime)
    _check_machine(device, facts)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_bytes(canonical_json({**memo, runtime: {"stamp": stamp, "facts": facts}}, indent=1))
    partial.replace(place)
    return facts


def _stamp(device: Device, runtime: str) -> str:
    """Digest of everything an emulated device consists of; empty for a real one, which is asked every time."""
    if device.transport != "emulated":
        return ""
    from edgeft.device.prepare import fingerprint

    parts = [device.model_dump(mode="json"), fingerprint(device)]
    parts += [tool_version(tool) for tool in plugins.load("runtimes", runtime).DISTRIBUTIONS]
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def _check_machine(device: Device, facts: DeviceFacts) -> None:
    wanted = MACHINES.get(device.architecture, ())
    if wanted and facts.get("machine", "").lower() not in wanted:
        raise DeviceError(
            f"it is {facts.get('machine') or 'of an unknown architecture'}, the profile says {device.architecture}",
            where=f"device {device.name}",
            hint="choose the device type that fits the machine: edgeft devices list",
        )


def _place(store: Store, device: Device) -> Path:
    return store.root / "devices" / f"{device.unit.name if device.unit else device.name}.json"


def _read(place: Path) -> dict[str, dict[str, Any]]:
    """The memo; anything unreadable is no memo."""
    try:
        if place.stat().st_size > LARGEST_MEMO:
            return {}
        found = json.loads(place.read_bytes())
        return {str(name): row for name, row in found.items() if isinstance(row.get("facts"), dict)}
    except (OSError, ValueError, AttributeError):
        return {}
