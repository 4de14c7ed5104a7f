"""Shipped text recipes of compression, built on a few real docstrings by a real MiniLM and a few steps of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = [pytest.mark.ml, pytest.mark.slow]

FEW = [
    "data.options.per_package=80", "data.options.packages=[networkx, pandas, torch]", "finetune.max_steps=4",
    "finetune.eval_steps=4", "targets.0.export=[onnx]", "gates=[{metric: artifact_mb, at_most: 25}]",
]  # fmt: skip


def build(folder: Path, name: str, *sets: str) -> Any:
    bench = Workbench(folder, folder / "store")
    run = bench.run(
        "build", f"edgeft:text/{name}", *(word for text in (*FEW, *sets) for word in ("--set", text)), timeout=900
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return bench.record(name)


def test_smallest_drops_words_and_trains_under_rounding(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    record = build(tmp_path, "smallest", "rounded.max_steps=4")
    (row,) = record["pruning"]
    assert row["parameters"][1] < 0.6 * row["parameters"][0], "most of the vocabulary is never met in 240 docstrings"
    assert [training["step"] for training in record["training"]] == ["finetune", "rounded"]
    chosen = next(row for row in record["targets"][0]["candidates"] if row["status"] == "chosen")
    assert chosen["name"] == "onnx/int8-dynamic" and chosen["bytes"] < 13e6, "the whole vocabulary in int8 is 23 MB"


@pytest.mark.parametrize(("method", "pattern"), [("wanda", "2:4"), ("magnitude", "2:4")])
def test_sparse_zeroes_half_and_only_the_compressed_file_gains(method: str, pattern: str, tmp_path: Path) -> None:
    record = build(tmp_path, "sparse", f"prune.method={method}", "prune.heal_steps=4")
    (row,) = record["pruning"]
    before, after = row["compressed"]
    assert after < 0.85 * before and row["parameters"][0] == row["parameters"][1] and row["heals"], row
