"""Ctrl-C that cannot get lost: a library that swallows the exception only delays it to the next word of progress."""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def watch() -> None:
    """Let SIGINT and SIGTERM ask a build to stop. Imports of large libraries catch exceptions they do not know."""
    global _asked
    _asked = False
    signal.signal(signal.SIGINT, _ask)
    signal.signal(signal.SIGTERM, _ask)


def check() -> None:
    """Raise KeyboardInterrupt where stopping was asked for."""
    if _asked:
        raise KeyboardInterrupt


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
