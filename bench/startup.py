"""`edgeft --help`, installed from the wheel into an empty environment, against the same interpreter's `-c pass`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from bench.interleave import compare

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        build = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(place),
            str(ROOT),
        ]
        subprocess.run(build, check=True)
        wheel = next(place.glob("edgeft-*.whl"))
        venv.create(place / "env", with_pip=True)
        python = place / "env/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
        ratio = compare([str(place / "env/bin/edgeft"), "--help"], [str(python), "-c", "pass"], blocks=20)
        print(ratio.line("edgeft --help against python -c pass"))
