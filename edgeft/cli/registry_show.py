"""`edgeft registry list`, `show`, `compare` and `log`: they check the chain of the log and say what is damaged."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError, Exit
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.log import Entry, broken
from edgeft.ship.registry.names import parse_reference
from edgeft.ship.registry.state import State
from edgeft.ship.registry.view import VersionRow, loose_ends, version_row, version_rows


def show_action(args: argparse.Namespace) -> int:
    """One of them; 3 where something is damaged, after what can be shown was shown."""
    registry = Registry(args.registry)
    state = registry.read()
    faults = {"list": _list, "show": _show, "compare": _compare, "log": _log}[args.action](registry, state, args)
    if state.fault:
        print(f"note: this is what the log says up to entry {len(state.entries)}", file=sys.stderr)
        print(broken(registry.place, state.fault).render(), file=sys.stderr)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return int(Exit.STEP_FAILED if state.fault or faults else Exit.OK)


def _damages(rows: list[VersionRow]) -> list[str]:
    return [f"{row.label} was changed: {row.faults[0]}" for row in rows if row.faults]


def _list(registry: Registry, state: State, args: argparse.Namespace) -> list[str]:
    from edgeft.report.registry import list_lines

    rows = version_rows(registry, state, args.name)
    keys, ends = sorted(state.keys), [] if state.fault else loose_ends(registry, state)
    if args.json:
        _print({"versions": [row.to_json() for row in rows], "keys": keys, "loose": ends, "fault": state.fault})
        return _damages(rows)
    print("\n".join(list_lines(rows)))
    print(f"trusted keys: {', '.join(keys) or 'none: `edgeft registry trust PUB`, or --key'}")
    for text in ends:
        print(f"note: {text}")
    return _damages(rows)


def _show(registry: Registry, state: State, args: argparse.Namespace) -> list[str]:
    reference = parse_reference(args.version)
    moves = [entry for entry in state.entries if entry.name == reference.name]
    whole = not (reference.version or reference.stage)
    rows = version_rows(registry, state, reference.name) if whole or args.html else []
    if args.html:
        _write_page(args.html, reference.name, rows, moves, state.fault)
    if whole:
        return _history(rows, state.fault, as_json=args.json)
    entry = state.find(reference)
    row = version_row(registry, state, entry, deep=True)
    own = [item for item in moves if item.version == entry.version]
    if args.json:
        _print({**row.to_json(), "log": [item.model_dump() for item in own]})
    else:
        from edgeft.report.registry import version_lines

        print("\n".join(version_lines(row, own)))
    return _damages([row])


def _history(rows: list[VersionRow], fault: str, *, as_json: bool) -> list[str]:
    if as_json:
        _print({"versions": [row.to_json() for row in rows], "fault": fault})
    else:
        from edgeft.report.registry import history_lines

        print("\n".join(history_lines(rows)))
    return _damages(rows)


def _write_page(place: Path, name: str, rows: list[VersionRow], moves: list[Entry], fault: str) -> None:
    from edgeft.report.history import render_history

    try:
        place.write_text(render_history(name, rows, moves, fault), encoding="utf-8")
    except OSError as error:
        raise EdgeftError(f"cannot be written: {error.strerror}", where=str(place)) from error
    print(f"wrote {place}", file=sys.stderr)


def _compare(registry: Registry, state: State, args: argparse.Namespace) -> list[str]:
    from edgeft.report.registry import comparison_lines
    from edgeft.ship.registry.differences import compare_facts

    entries = [state.find(parse_reference(text)) for text in (args.one, args.other)]
    rows = [version_row(registry, state, entry) for entry in entries]
    one, other = (registry.facts(entry.bundle) for entry in entries)
    found = compare_facts(one, other)
    if args.json:
        _print({"one": rows[0].label, "other": rows[1].label, **found.to_json()})
    else:
        print("\n".join(comparison_lines(rows[0].label, rows[1].label, found)))
    return _damages(rows)


def _log(registry: Registry, state: State, args: argparse.Namespace) -> list[str]:
    for entry in state.entries:
        sys.stdout.write(entry.line().decode("utf-8", "surrogatepass"))
    return []


def _print(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=1))
