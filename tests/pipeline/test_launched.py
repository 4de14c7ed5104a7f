"""A whole build under torchrun: rank 0 builds, the others train along and end. gloo on CPU stands for NCCL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = [pytest.mark.ml, pytest.mark.slow]


def test_two_processes_build_one_bundle(workbench: Callable[..., Workbench]) -> None:
    bench = workbench("qlora", fresh=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*launcher, "-m", "edgeft", "build", "recipe.yaml"], cwd=bench.folder, env={**bench.env(), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    record = bench.record()
    assert record["status"] == "passed"
    # 432 rows in two processes of 16: 14 steps an epoch, two epochs.
    assert record["training"][0]["steps"] == 28
