"""Several processes, as `accelerate launch` starts them; gloo on CPU stands for NCCL on GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.world import World

pytestmark = [pytest.mark.ml, pytest.mark.slow]


def test_two_processes_train_one_model(world: World) -> None:
    options = {"method": "lora", "epochs": 2, "batch_size": 8, "eval_steps": 4, "checkpoint_steps": 5}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
    ]
    done = subprocess.run(
        [*command, "tests.stages.launched", str(world.root), json.dumps(options)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    main, other = (json.loads((world.root / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert main["files"] == ["adapter_config.json", "adapter_model.safetensors", "edgeft.json"]
    assert other["files"] == []
    # 96 rows, two processes of 8: six steps an epoch.
    assert main["training"]["steps"] == other["training"]["steps"] == 12
    assert main["training"]["best_metric"] == other["training"]["best_metric"]
    whole = sorted(path.name for path in (world.root / "scratch" / "launched" / "checkpoints").glob("step-*"))
    assert whole == ["step-10", "step-12"]
    assert (world.root / "scratch" / "launched" / "checkpoints" / "step-12" / "rng_state_1.pth").is_file()
