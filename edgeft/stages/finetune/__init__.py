"""Fine-tuning: a file per method, loaded by name; the training loop they share lies beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft import plugins
from edgeft.stage import Stage

DEFAULT_METHOD = "qlora"


def stage_for(options: Mapping[str, Any]) -> type[Stage]:
    """The stage class of `finetune: {method: ...}`; an unknown method is a PluginError with the nearest name."""
    found: type[Stage] = plugins.load("methods", str(options.get("method", DEFAULT_METHOD)))
    return found
