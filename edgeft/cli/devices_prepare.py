"""`edgeft devices prepare` and `cost`."""

from __future__ import annotations

import argparse
import json
import sys

from edgeft.errors import RecipeError


def prepare_or_cost(args: argparse.Namespace) -> int:
    """Assemble what a device needs, or say what was assembled."""
    return _prepare(args.name, force=args.force) if args.action == "prepare" else _cost(as_json=args.json)


def _prepare(name: str, *, force: bool) -> int:
    from edgeft.device.pick import resolve_device
    from edgeft.device.prepare import needs_folder, prepare
    from edgeft.device.profile import load_device
    from edgeft.device.relations import folder_mates, made_folder, stand_ins, takes_folder

    device = resolve_device(name)
    if device.transport in ("local", "carried"):
        raise RecipeError(f"{device.name} is reached by '{device.transport}': there is nothing to prepare for it")
    if device.transport == "emulated" and not needs_folder(device):
        print(f"{device.name} needs no folder: it runs this machine's own Python and runtimes under qemu")
        return 0
    folder = prepare(device, force=force, on_progress=lambda text: print(f"  {text}", file=sys.stderr))
    ready = "is ready" if device.transport == "emulated" else "has its runtime folder, sent there on first use"
    print(f"{device.name} {ready}: {folder}")
    if mates := folder_mates(device):
        print(f"the same folder serves {', '.join(mates)}")
    for name in stand_ins(device):
        other = load_device(name)
        if name not in mates and takes_folder(other) and made_folder(other) is None:
            print(f"{name}, with the same core, runs in a folder of its own: edgeft devices prepare {name}")
    return 0


def _cost(*, as_json: bool) -> int:
    from edgeft.device.prepare import folder_cost, runtimes_root

    cost, root = folder_cost(), runtimes_root()
    if as_json:
        print(json.dumps({"folder": str(root), "prepared": cost, "bytes": sum(cost.values())}, indent=1))
        return 0
    print(f"prepared runtime folders in {root}")
    for name, size in cost.items():
        print(f"  {size / 1e6:>8.1f} MB  {name}")
    print(f"  {sum(cost.values()) / 1e6:>8.1f} MB  {'in all' if cost else 'nothing is prepared'}")
    return 0
