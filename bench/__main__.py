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
    prune_images,
    rebuild,
    same_model,
    search,
    sliding,
    speedup,
    startup,
    unet,
    verify,
    weights,
)

NAMES = {
    "startup": startup.main,
    "rebuild": rebuild.main,
    "overhead": overhead.main,
    "speedup": speedup.main,
    "peer": peer.main,
    "unet": unet.main,
    "prune": prune.main,
    "prune-segmentation": prune_images.main_segmentation,
    "prune-image": prune_images.main_image,
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
    "weights": weights.main,
}
ON_PURPOSE = {"medical-stream": "writes 10 GB"}
"""Benches that run only where they are named, and why."""


def main(names: list[str]) -> int:
    """Run the named benches; by default all but those of `ON_PURPOSE`. 1 where one of them missed its aim.

    A bench answers True or nothing, or as a program 0, where all is well.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no bench is called {unknown[0]}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed: list[str] = []
    for name, why in ON_PURPOSE.items() if not names else ():
        print(f"{name}: skipped, it {why}: python -m bench {name}")
    for name in names or [name for name in NAMES if name not in ON_PURPOSE]:
        found = NAMES[name]()
        if found is False or (found is not True and found):
            print(f"{name}: failed", file=sys.stderr)
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
