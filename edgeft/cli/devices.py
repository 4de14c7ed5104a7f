"""`edgeft devices`: the devices a recipe can name, and the machines you have of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

HELP = "List device types and your machines; add, reach and prepare them"
DESCRIPTION = """List device types and your own machines, ask what a machine is, and make one ready.

A type (raspberry-pi-5) comes with edgeft or is a YAML file of yours, and is what a recipe names. A unit is one machine
of a type: where it is stays in your own configuration and never enters a recipe, a report or a bundle. A build takes
any free unit of the type; one process at a time uses a unit."""
EPILOG = """examples:
  edgeft devices list
  edgeft devices show raspberry-pi-5                  its profile, and where each figure comes from
  edgeft devices add kitchen-pi --type raspberry-pi-5 --host pi@kitchen.local
  edgeft devices probe kitchen-pi                     reach it; what it is and what differs from the profile
  edgeft devices prepare cortex-a76-emulated          assemble its arm64 runtime folder, once
  edgeft devices remove kitchen-pi

files:
  EDGEFT_UNITS, else ~/.config/edgeft/units.yaml (Windows: %APPDATA%\\edgeft\\units.yaml)   your units
"""

ADD_EPILOG = """examples:
  edgeft devices add kitchen-pi --type raspberry-pi-5 --host pi@kitchen.local
  edgeft devices add desk-phone --type pixel-8 --serial 39281FDJH00123
  edgeft devices add lab --type ./my-board.yaml --host lab --port 2222 --python /opt/edge/bin/python3
"""
PROBE_EPILOG = """examples:
  edgeft devices probe local-cpu
  edgeft devices probe kitchen-pi --wait-device 10m
  edgeft devices probe raspberry-pi-5 --json      any free unit of the type

exit codes:
  0 reached, and a runtime of its profile is there; what differs is listed
  4 not reached, of another architecture or system, or with no runtime of its profile
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Actions of `devices`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    listing = _action(
        actions, "list", "device types and your units", "List device types, and your units with who uses them."
    )
    _add_json(listing)
    show = _action(
        actions, "show", "one profile with its sources", "Print a profile, and where each figure comes from."
    )
    _add_name(show)
    _add_json(show)
    _configure_probe(actions)
    _configure_add(actions)
    remove = _action(actions, "remove", "forget a unit", "Take a unit out of your units; the machine is not touched.")
    remove.add_argument("name", metavar="NAME", help="a unit of yours")
    _configure_prepare(actions)
    cost = _action(
        actions,
        "cost",
        "what prepared folders take",
        "Say what the prepared runtime folders take on disk, and where they are.",
    )
    _add_json(cost)


def run(args: argparse.Namespace) -> int:
    """The action's own function."""
    action: Callable[[argparse.Namespace], int]
    if args.action == "list":
        from edgeft.cli.devices_show import list_devices as action
    elif args.action == "show":
        from edgeft.cli.devices_show import show_device as action
    elif args.action == "probe":
        from edgeft.cli.devices_probe import probe_device as action
    elif args.action in ("add", "remove"):
        from edgeft.cli.devices_units import change_units as action
    else:
        from edgeft.cli.devices_prepare import prepare_or_cost as action
    return action(args)


def _configure_probe(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from edgeft.cli.devices_wait import add_wait_option

    probe = _action(
        actions, "probe", "reach a device and ask what it is",
        "Start a job for each runtime of the profile on the device; say what is there and what differs from the\n"
        "profile. Nothing is measured and nothing stays there.",
        PROBE_EPILOG,
    )  # fmt: skip
    _add_name(probe)
    add_wait_option(probe)
    _add_json(probe)


def _configure_add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = _action(
        actions, "add", "tell edgeft of a machine of yours",
        "Write a machine into your units. It is not contacted: `edgeft devices probe NAME` does that. Passwords are\n"
        "never kept: ssh uses your keys, agent and ~/.ssh/config.",
        ADD_EPILOG,
    )  # fmt: skip
    add.add_argument("name", metavar="NAME", help="what you call it: letters, digits and hyphens")
    add.add_argument("--type", required=True, metavar="TYPE", help="device type, or the YAML file of one of yours")
    add.add_argument("--host", metavar="HOST", help="for ssh: an alias, a name or an address; user@ if needed")
    add.add_argument("--port", type=int, metavar="N", help="for ssh: the port, where it is not 22")
    add.add_argument("--serial", metavar="SERIAL", help="for adb: as `adb devices` shows it")
    add.add_argument("--python", metavar="PATH", help="Python interpreter on the machine, when not python3")
    add.add_argument("--folder", metavar="DIR", help="folder on the machine in which jobs may be laid")


def _configure_prepare(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prepare = _action(
        actions, "prepare", "make a device ready, once",
        "Assemble what the device needs to run jobs, such as the arm64 runtime folder of an emulated one. It is kept,\n"
        "checked by its digests, and used by every build.",
    )  # fmt: skip
    _add_name(prepare)
    prepare.add_argument("--force", action="store_true", help="assemble it anew even if it is there")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    description: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
    return actions.add_parser(
        name,
        help=text,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a device type, a unit of yours, or the YAML file of a type")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")
