"""Entry points: the one way a stage, method, exporter, runtime, task, data source or transport is found."""

from __future__ import annotations

from functools import cache
from typing import Any

from edgeft.errors import EdgeftError, Exit

GROUPS = ("stages", "methods", "pruners", "exporters", "runtimes", "tasks", "data", "transports")
METHODS = {"finetune": "methods", "prune": "pruners"}
"""Stages that come in several methods -> the group that holds them."""


class PluginError(EdgeftError):
    """An unknown plugin, two of one name, or one that cannot be imported."""

    exit_code = Exit.USAGE


@cache
def _table(group: str) -> dict[str, Any]:
    from importlib.metadata import entry_points

    table: dict[str, Any] = {}
    for entry in entry_points(group=f"edgeft.{group}"):
        known = table.get(entry.name)
        if known is not None and known.value != entry.value:
            raise PluginError(
                f"two plugins are called '{entry.name}' in edgeft.{group}: {known.value} and {entry.value}",
                hint="uninstall one of the two packages",
            )
        table[entry.name] = entry
    return table


def names(group: str) -> tuple[str, ...]:
    """Names available in a group, sorted, without importing any of them."""
    return tuple(sorted(_table(group)))


@cache
def load(group: str, name: str) -> Any:
    """The object behind `name`; unknown names and failed imports are PluginErrors."""
    table = _table(group)
    if name not in table:
        from difflib import get_close_matches

        near = get_close_matches(name, table, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(table)) or 'none'}"
        raise PluginError(f"no {group} plugin is called '{name}'", hint=hint)
    try:
        return table[name].load()
    except ImportError as error:
        raise PluginError(
            f"plugin '{name}' ({table[name].value}) cannot be imported: {error}",
            hint=f"install what it needs, for instance: pip install 'edgeft[{name}]'",
        ) from error
