"""`edgeft registry add`, `promote`, `rollback`, `trust`, `distrust` and `get`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from edgeft.errors import Exit, RecipeError
from edgeft.ship.keys import trusted_keys
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.names import checked_stage, checked_words, parse_reference


def change_action(args: argparse.Namespace) -> int:
    """One of them."""
    actions: dict[str, Callable[[Registry, argparse.Namespace], str]] = {
        "add": _add, "promote": _promote, "rollback": _rollback, "trust": _trust, "distrust": _distrust, "get": _get,
    }  # fmt: skip
    for option in ("by", "reason"):
        if getattr(args, option, ""):
            setattr(args, option, checked_words(getattr(args, option), f"--{option}"))
        elif hasattr(args, option) and args.action != "add":
            raise RecipeError("must not be empty", where=f"--{option}", hint="it stays in the log")
    print(actions[args.action](Registry(args.registry), args))
    return int(Exit.OK)


def _add(registry: Registry, args: argparse.Namespace) -> str:
    from edgeft.report.words import bytes_text
    from edgeft.ship.archive import opened

    with opened(args.bundle) as folder:
        added = registry.add(folder, args.name, args.version, args.parent, args.by)
    entry, stored = added.entry, added.stored
    facts = registry.facts(stored.digest)
    size = f"{bytes_text(stored.size)} in {len(stored.manifest['files'])} files"
    label = f"{entry.name}:{entry.version}"
    lines = [f"new registry: {registry.place.location}"] if added.fresh else []
    lines.append(f"{label} is this bundle already" if added.again else f"added {label}, {facts.status}")
    lines.append(f"  {size}{'' if stored.new else ', stored before: nothing was copied'}")
    lines.append(f"  sha-256 of the manifest: {stored.digest}")
    return "\n".join(lines)


def _promote(registry: Registry, args: argparse.Namespace) -> str:
    reference, stage = parse_reference(args.version), checked_stage(args.stage)
    entry = registry.promote(reference, stage, args.by, args.reason, _keys(args.key))
    return f"{stage} of {entry.name} is {entry.name}:{entry.version} now, signed by key {entry.key}"


def _rollback(registry: Registry, args: argparse.Namespace) -> str:
    stage = checked_stage(args.stage)
    entry = registry.rollback(args.name, stage, args.to, args.by, args.reason, _keys(args.key))
    return f"{stage} of {entry.name} is {entry.name}:{entry.version} again, signed by key {entry.key}"


def _trust(registry: Registry, args: argparse.Namespace) -> str:
    keys = trusted_keys([Path(args.key)])
    return "\n".join(f"key {registry.trust(public, args.by, args.reason).key} is trusted" for public in keys.values())


def _distrust(registry: Registry, args: argparse.Namespace) -> str:
    path = Path(args.key)
    names = list(trusted_keys([path])) if path.is_file() else [args.key]
    return "\n".join(
        f"key {registry.distrust(name, args.by, args.reason).key} is not trusted any more" for name in names
    )


def _get(registry: Registry, args: argparse.Namespace) -> str:
    from edgeft.ship.registry.export import export_bundle

    return f"{args.out}: {export_bundle(registry, parse_reference(args.version), args.out, _keys(args.key))}"


def _keys(paths: list[Path]) -> dict[str, bytes] | None:
    """Id -> public key of the files; None where none was named."""
    return trusted_keys(paths) if paths else None
