"""Pruning: a file per method, loaded by name; measuring, healing and saving they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft import plugins
from edgeft.stage import Stage

DEFAULT_METHOD = "structured"


def stage_for(options: Mapping[str, Any]) -> type[Stage]:
    """The stage class of `prune: {method: ...}`; an unknown method is a PluginError with the nearest name."""
    found: type[Stage] = plugins.load("pruners", str(options.get("method", DEFAULT_METHOD)))
    return found
