"""The bare script's own running and timing of ONNX files. As a program: load FILE, answer FEEDS once, say how long."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
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


def feeds_of(loaded: Any, row: list[int], length: int) -> dict[str, Any]:
    """One case as the file takes it."""
    names = {item.name for item in loaded.get_inputs()}
    return {k: v.numpy() for k, v in batch_of([row], length).items() if k in names}


def latency(file: Path, rows: list[list[int]], length: int) -> float:
    """p50 milliseconds over at least 64 runs and 10 seconds."""
    loaded = session(file)
    feeds = feeds_of(loaded, rows[0], length)
    times: list[float] = []
    until = time.perf_counter() + 10
    while time.perf_counter() < until or len(times) < 64:
        began = time.perf_counter()
        loaded.run(None, feeds)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def cold(file: Path, rows: list[list[int]], length: int, times: int = 7) -> dict[str, float]:
    """Medians of load and first answer in milliseconds, and of peak memory in MB, over fresh processes."""
    import numpy as np

    with tempfile.TemporaryDirectory() as place:
        feeds = Path(place) / "feeds.npz"
        np.savez(feeds, **feeds_of(session(file), rows[0], length))
        command = [sys.executable, "-m", "bench.bare_run", str(file), str(feeds)]
        answers = [
            json.loads(subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1]).stdout)
            for _ in range(times)
        ]
    return {name: statistics.median(answer[name] for answer in answers) for name in answers[0]}


def profile(file: Path, rows: list[list[int]], length: int, runs: int = 20) -> int:
    """Nodes in ONNX Runtime's own profile of some runs."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as place:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.enable_profiling, settings.profile_file_prefix = True, f"{place}/profile"
        loaded = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        feeds = feeds_of(loaded, rows[0], length)
        for _ in range(runs):
            loaded.run(None, feeds)
        events = json.loads(Path(loaded.end_profiling()).read_text())
    return len({event["name"] for event in events if event.get("cat") == "Node"})


def main(file: Path, feeds: Path) -> None:
    """Print load_ms, first_ms and peak_mb of this process."""
    import numpy as np

    given = dict(np.load(feeds))
    began = time.perf_counter()
    loaded = session(file)
    ready = time.perf_counter()
    loaded.run(None, given)
    answered = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"load_ms": (ready - began) * 1e3, "first_ms": (answered - ready) * 1e3, "peak_mb": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
