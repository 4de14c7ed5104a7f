"""How `edgeft convert` is called, for hints: a line that can be pasted whatever the paths hold."""

from __future__ import annotations

import shlex
from pathlib import Path


def convert_line(pickle: Path, output: Path | None = None, *more: str) -> str:
    """`edgeft convert PICKLE --output OUTPUT`, quoted for a shell."""
    ends = ["--output", str(output)] if output is not None else []
    return shlex.join(["edgeft", "convert", str(pickle), *more, *ends])
