"""Third-party chatter goes to a log file: prints, warnings and C++ messages alike, by file descriptor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


@contextmanager
def to_log(path: Path) -> Iterator[TextIO]:
    """Send file descriptors 1 and 2 to `path` (appended) inside the block; yields the log for our own lines.

    Only the descriptors are redirected: a terminal that holds its own duplicate keeps writing to the screen, and what
    keeps a reference to sys.stderr (a library's log handler) goes on working afterwards. Streams that do not write to
    these descriptors, as under a test runner, are replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("a", encoding="utf-8", errors="replace", buffering=1) as log:
        saved = [(number, os.dup(number)) for number in (1, 2)]
        streams = sys.stdout, sys.stderr
        try:
            for number, _ in saved:
                os.dup2(log.fileno(), number)
            if not all(_writes_to(stream, number) for number, stream in zip((1, 2), streams, strict=True)):
                sys.stdout = sys.stderr = log
            yield log
        finally:
            for stream in (sys.stdout, sys.stderr, log):
                with suppress(OSError, ValueError):  # closed by what ran inside, or the disk is full
                    stream.flush()
            sys.stdout, sys.stderr = streams
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)


def _writes_to(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


def own_stream(number: int) -> TextIO:
    """A text stream on a duplicate of descriptor 1 or 2, unaffected by `to_log`."""
    return os.fdopen(os.dup(number), "w", encoding="utf-8", errors="replace", buffering=1)
