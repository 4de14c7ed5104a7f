"""`edgeft registry`: versions of bundles, and which of them is released."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edgeft.errors import RecipeError

VARIABLE = "EDGEFT_REGISTRY"
HELP = "Keep versions of bundles, promote what passed and is signed, roll back"
DESCRIPTION = """Keep versions of bundles in a folder or an object store, and say which of them is released.

A bundle is stored once, by the digest of its manifest, and never changed; nothing is ever deleted. Who promoted what
and why stays in a log in which each entry holds the hash of the one before: what was edited is told. Two may write at
once. docs/registry.md says what is kept and what is not."""
EPILOG = """examples:
  export EDGEFT_REGISTRY=/srv/models                             or s3://bucket/models
  edgeft registry trust release.pem.pub --by Ada --reason "release key 2026"
  edgeft registry add out/router --parent router@production
  edgeft registry list
  edgeft registry show router --html history.html
  edgeft registry compare router:2 router@production
  edgeft registry promote router:2 --by Ada --reason "fewer false alarms, ticket 41"
  edgeft registry rollback router --by Ada --reason "complaints from site B"
  edgeft registry get router@production --out bundle/

a version: router:2, router@production or router@staging; router alone is the newest

exit codes: 0 done, 1 not promoted: it failed or is not trusted, 2 bad usage, 3 the registry is damaged or cannot be
reached, 5 not promoted: inconclusive, or no key to ask who signed it
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Actions of `registry`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    _configure_add(actions)
    listing = _action(actions, "list", "all versions, or those of one name")
    listing.add_argument("name", nargs="?", default="", metavar="NAME", help="only versions of this name")
    listing.add_argument("--json", action="store_true", help="one JSON document")
    show = _action(actions, "show", "one version whole, or a name's history")
    show.add_argument("version", metavar="VERSION", help="router:2, router@production, or router for its history")
    show.add_argument("--html", type=Path, metavar="FILE", help="write the name's history as one HTML page")
    show.add_argument("--json", action="store_true", help="one JSON document")
    compare = _action(actions, "compare", "two versions by what they recorded")
    for side in ("one", "other"):
        compare.add_argument(side, metavar=side.upper(), help="a version")
    compare.add_argument("--json", action="store_true", help="one JSON document")
    _configure_moves(actions)
    for name, what, text in (("trust", "key", "trust a signing key"), ("distrust", "key", "trust it no more")):
        action = _action(actions, name, text)
        action.add_argument(
            what, metavar="PUB", help="a public key (PEM file)" if name == "trust" else "its id or file"
        )
        _add_who(action)
    get = _action(actions, "get", "copy a version out, with its signature")
    get.add_argument("version", metavar="VERSION", help="a version")
    get.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    _add_keys(get)
    _action(actions, "log", "everything that happened, as JSON lines; checks the chain")


def _configure_add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = _action(actions, "add", "store a bundle as a new version")
    add.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or archive, or a build's folder with one target"
    )
    add.add_argument("--name", default="", metavar="NAME", help="default: what the bundle calls itself")
    add.add_argument("--version", default="", metavar="V", help="default: 1, 2, 3, ...")
    add.add_argument("--parent", default="", metavar="VERSION", help="what it derives from or was compared with")
    add.add_argument("--by", default="", metavar="NAME", help="who adds it; stays in the log")


def _configure_moves(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    promote = _action(actions, "promote", "put a version into a stage, if it passed and a trusted key signed it")
    promote.add_argument("version", metavar="VERSION", help="a version")
    rollback = _action(actions, "rollback", "put back what the stage held before, by the same rules")
    rollback.add_argument("name", metavar="NAME", help="which name")
    rollback.add_argument("--to", default="", metavar="V", help="an earlier version that the stage held")
    for action in (promote, rollback):
        action.add_argument(
            "--stage", choices=("staging", "production"), default="production", help="default: production"
        )
        _add_who(action)
        _add_keys(action)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    action.add_argument(
        "--registry",
        default=os.environ.get(VARIABLE, ""),
        metavar="LOCATION",
        help=f"a folder or an fsspec address (default: {VARIABLE})",
    )
    return action


def _add_who(action: argparse.ArgumentParser) -> None:
    action.add_argument("--by", required=True, metavar="NAME", help="who decides; stays in the log")
    action.add_argument("--reason", required=True, metavar="TEXT", help="why; stays in the log")


def _add_keys(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--key", action="append", default=[], type=Path, metavar="PUB",
        help="trust this public key alone, not the registry's own; repeatable",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """The action's own function."""
    if not args.registry:
        raise RecipeError("no registry is named", where="--registry", hint=f"a folder, or set {VARIABLE}")
    if args.action in ("list", "show", "compare", "log"):
        from edgeft.cli.registry_show import show_action

        return show_action(args)
    from edgeft.cli.registry_change import change_action

    return change_action(args)
