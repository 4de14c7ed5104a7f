"""`python -m bench [NAME ...]`: prints rows for docs/benchmarks.md; no name runs all but those of `ON_PURPOSE`."""

from __future__ import annotations

import sys

from bench import (
    calibration,
    crash,
    distil,
    gate_power,
    gate_rivals,
    gates,
    gpu,
    matrix,
    medical_stream,
    overhead,
    peer,
    protocol,
    prune,
    rebuild,
    same_model,
    search,
    sliding,
    speedup,
    startup,
    unet,
    verify,
)

NAMES = {
    "startup": startup.main,
    "rebuild": rebuild.main,
    "overhead": overhead.main,
    "speedup": speedup.main,
    "peer": peer.main,
    "unet": unet.main,
    "prune": prune.main,
    "protocol": protocol.main,
    "matrix": matrix.main,
    "search": search.main,
    "sliding": sliding.main,
    "calibration": calibration.main,
    "distil": distil.main,
    "crash": crash.main,
    "gates": gates.main,
    "gate-power": gate_power.main,
    "gate-rivals": gate_rivals.main,
    "verify": verify.main,
    "same-model": same_model.main,
    "medical-stream": medical_stream.main,
    "gpu": gpu.main,
}
ON_PURPOSE = {"medical-stream": "writes 10 GB"}
"""Benches that run only where they are named, and why."""


def main(names: list[str]) -> int:
    """Run the named benches; by default all but those of `ON_PURPOSE`."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no bench is called {unknown[0]}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name, why in ON_PURPOSE.items() if not names else ():
        print(f"{name}: skipped, it {why}: python -m bench {name}")
    for name in names or [name for name in NAMES if name not in ON_PURPOSE]:
        NAMES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
