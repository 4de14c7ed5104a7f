"""The bare script's own running and timing of ONNX files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def batch_of(rows: list[list[int]], length: int | None = None) -> dict[str, Any]:
    """Padded ids, mask and types, int64."""
    import torch

    width = length or max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    mask = (torch.arange(width)[None] < torch.tensor([len(row) for row in rows])[:, None]).to(torch.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def session(file: Path) -> Any:
    """One thread, as a device would run it."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])


def run(file: Path, rows: list[list[int]], length: int) -> Any:
    """(n, classes) by ONNX Runtime, one case a call."""
    import numpy as np

    loaded = session(file)
    names = {item.name for item in loaded.get_inputs()}
    return np.concatenate(
        [loaded.run(None, {k: v.numpy() for k, v in batch_of([row], length).items() if k in names})[0] for row in rows]
    )


def latency(file: Path, rows: list[list[int]], length: int) -> float:
    """p50 milliseconds over at least 64 runs and 10 seconds."""
    import statistics

    loaded = session(file)
    names = {item.name for item in loaded.get_inputs()}
    feeds = {k: v.numpy() for k, v in batch_of([rows[0]], length).items() if k in names}
    times: list[float] = []
    until = time.perf_counter() + 10
    while time.perf_counter() < until or len(times) < 64:
        began = time.perf_counter()
        loaded.run(None, feeds)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3
