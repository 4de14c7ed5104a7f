"""A training run that kills itself with SIGKILL: python -m tests.stages.train_child ROOT NAME OPTIONS POINT.

POINT is `step:N` (after optimiser step N) or `seal:N` (while the N-th file is hashed for a checkpoint's marker).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from edgeft.stages.finetune import checkpoint
from tests.stages.world import World


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, name: str, options: str, point: str) -> None:
    world = World(Path(root))
    kind, _, number = point.partition(":")
    ctx = world.context(name)
    if kind == "step":
        ctx.on_progress = lambda event: die() if event.done >= int(number) else None
    else:
        calls, digest = [0], checkpoint.digest_file

        def counted(path: Path) -> str:
            calls[0] += 1
            if calls[0] == int(number):
                die()
            return digest(path)

        checkpoint.digest_file = counted
    chosen: dict[str, Any] = json.loads(options)
    (world.run if "method" in chosen else world.distil)(chosen, name, ctx=ctx)


if __name__ == "__main__":
    main(*sys.argv[1:])
