"""`edgeft run` on a volume: class numbers as a NIfTI file on the volume's own grid."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from edgeft.ship.bundle import Bundle
    from edgeft.ship.volumes import Segmented


def run(bundle: Bundle, names: list[str], *, as_json: bool) -> int:
    """Answer each file, write its mask into the current folder, and print."""
    from edgeft.pipeline.noise import own_stream, to_log
    from edgeft.ship.volumes import segment_nifti

    for name in names:
        with own_stream(2) as screen, to_log(Path(os.devnull)):  # some runtimes greet on standard error
            found = segment_nifti(bundle, Path(name), Path(), _show(screen), _warn(screen))
        if as_json:
            row = {"mask": str(found.path), "shares": found.shares, "millilitres": found.millilitres}
            print(json.dumps({"input": name, **row}, ensure_ascii=False))
        else:
            print(_line(found))
    return 0


def _line(found: Segmented) -> str:
    parts = ", ".join(f"{label} {amount:.4g} ml" for label, amount in found.millilitres.items())
    return f"{found.path}  ({parts})"


def _warn(screen: TextIO) -> Callable[[str], None]:
    return lambda text: print(f"warning: {text}", file=screen)


def _show(screen: TextIO) -> Callable[[int, int], None]:
    """A line that follows the windows, on a terminal only."""
    live = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if live:
            print(f"\r{done}/{total} windows", end="\n" if done >= total else "", file=screen, flush=True)

    return show
