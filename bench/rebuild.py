"""A fully cached rebuild and a plan of the quickstart, in seconds, interleaved. The quickstart must be built before."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from bench.interleave import compare


def main() -> None:
    """Print medians of both."""
    edgeft = [sys.executable, "-m", "edgeft"]
    with tempfile.TemporaryDirectory() as out:
        build = [*edgeft, "build", "edgeft:text/quickstart", "--quiet", "--out", out]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        ratio = compare(build, [*edgeft, "plan", "edgeft:text/quickstart"], blocks=5)
    print(f"cached rebuild of the quickstart: {ratio.a:.2f} s; edgeft plan of it: {ratio.b:.2f} s")
