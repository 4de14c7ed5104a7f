"""Byte code for the modules of a runtime folder: halves the start of every job, under emulation and on small boards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = r"/(tests?|idlelib|tkinter|ensurepip|f2py)/"


def compile_modules(root: Path, python: str) -> None:
    """Write __pycache__ where this interpreter's byte code is the folder's (the same 3.x); else leave it without.

    The files are not checked against their sources when they are loaded (PEP 552): the manifest covers both.
    """
    if python != f"{sys.version_info[0]}.{sys.version_info[1]}":
        return
    subprocess.run(
        [
            sys.executable, "-I", "-W", "ignore", "-m", "compileall", "-qq", "-x", TESTS, "-s", str(root), "-p", "/",
            "--invalidation-mode", "unchecked-hash", str(root / "usr" / "lib" / f"python{python}"), str(root / "site"),
        ],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
