"""`edgeft devices add` and `remove`."""

from __future__ import annotations

import argparse
from pathlib import Path

KEYS = ("name", "type", "host", "port", "serial", "python", "folder")


def change_units(args: argparse.Namespace) -> int:
    """Write or forget a unit. RecipeError for what cannot be."""
    from edgeft.device.units import add_unit, make_unit, remove_unit

    if args.action == "remove":
        print(f"removed {args.name} from {remove_unit(args.name)}")
        return 0
    values = {key: getattr(args, key) for key in KEYS if getattr(args, key) is not None}
    if args.type.endswith((".yaml", ".yml")):
        values["type"] = str(Path(args.type).expanduser().absolute())
    unit = make_unit(values, "edgeft devices add")
    print(f"wrote {unit.name} to {add_unit(unit)}; next: edgeft devices probe {unit.name}")
    return 0
