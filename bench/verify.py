"""Seconds that `edgeft verify` takes of a signed 100 MB bundle, folder and archives: the whole command, start included.

The files were just written, so they come from the page cache; golden cases are those of a very small model.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeft.ship.archive import pack
from edgeft.ship.keys import new_key
from edgeft.ship.signature import sign_folder
from tests.ship.conftest import TENSOR, make_bundle, seal
from tests.ship.test_verify_golden import add_golden

MEGABYTES = 100
RUNS = 7
LIMIT_SECONDS = 2.0


def main() -> None:
    """Print one row for each form; ends in an error where the folder took longer than the limit."""
    with tempfile.TemporaryDirectory() as private:
        place = Path(private)
        signer = new_key(place / "k.pem")
        bundle = make_bundle(place / "bundle")
        add_golden(bundle)
        rng = np.random.default_rng(0)
        for part in range(4):
            weights = rng.integers(0, 256, MEGABYTES * 250_000, dtype=np.uint8)
            (bundle / f"weights-{part}.bin").write_bytes(weights.tobytes())
        sign_folder(seal(bundle, outputs={"y": {**TENSOR, "name": "y"}}), signer)
        pack(bundle, place / "bundle.zip")
        with tarfile.open(place / "bundle.tar", "w") as packed:
            packed.add(bundle, "bundle")
        key = ["--key", str(place / "k.pem.pub")]
        own = [sys.executable, "-I", str(bundle / "verify.py"), *key]
        whole = [sys.executable, "-m", "edgeft", "verify", *key]
        slowest = _row("folder", [*whole, str(bundle)])
        slowest = max(slowest, _row("folder, --no-golden", [*whole, str(bundle), "--no-golden"]))
        _row("verify.py in the bundle", own)
        _row(".zip", [*whole, str(place / "bundle.zip")])
        _row(".tar", [*whole, str(place / "bundle.tar")])
        if slowest > LIMIT_SECONDS:
            raise SystemExit(f"{slowest:.2f} s is more than {LIMIT_SECONDS} s")


def _row(name: str, command: Sequence[str]) -> float:
    """The median, after its row was printed."""
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    middle = float(np.median(seconds))
    print(f"| verify {MEGABYTES} MB: {name} | {middle:.2f} s (of {RUNS}: {min(seconds):.2f} to {max(seconds):.2f}) |")
    return middle


if __name__ == "__main__":
    main()
