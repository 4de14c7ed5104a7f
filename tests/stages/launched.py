"""One process of a data-parallel run: torchrun --nproc-per-node 2 -m tests.stages.launched ROOT OPTIONS."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.stages.world import World


def main(root: str, options: str) -> None:
    world = World(Path(root))
    made = world.run(json.loads(options), "launched")
    rank = os.environ["RANK"]
    about = {"training": made.facts["training"], "files": sorted(path.name for path in made.path.iterdir())}
    (Path(root) / f"rank-{rank}.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main(*sys.argv[1:])
