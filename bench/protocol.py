"""What the measurement protocol itself costs on a model of about one millisecond: under 2% of the measured time.

Three parts, from one run of the real loop on the real runtime: what a sample holds beyond the runtime's own call (the
adapter and two readings of the clock), what lies between the samples of a block, and the sentinel and conditions
between blocks. The first is an error of every sample; the others only cost time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeft.device import conditions, timing
from edgeft.runtimes import ort

GOAL = 0.02
WIDTH, LAYERS = 512, 4
TARGET_MS = 1.0


def main(seconds: float = 10.0) -> bool:
    """Print the three parts and their sum; whether that is under the goal."""
    import numpy as np

    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        rows = fitting_rows(path)
        session = ort.load(str(path), {"threads": 1})
        inside = count_inside(session)
        feeds = {"x": np.ones((rows, WIDTH), dtype=np.float32)}
        timed = timing.time_runs(
            lambda: session.run(feeds), 64, seconds, lambda done, total: None, read=conditions.reading
        )
    blocks = timed["blocks"]
    runs = sum(len(block["ms"]) for block in blocks)
    samples = sum(sum(block["ms"]) for block in blocks) / 1000
    in_blocks = sum(block["seconds"] for block in blocks)
    called = sum(inside[-runs:])
    parts = {
        "in a sample, around the runtime's call": (samples - called) / samples,
        "between samples": (in_blocks - samples) / timed["wall"],
        "sentinel and conditions between blocks": (timed["wall"] - in_blocks) / timed["wall"],
    }
    print(f"{runs} runs of {1000 * samples / runs:.3f} ms in {timed['wall']:.1f} s, {len(blocks)} blocks")
    for name, share in parts.items():
        print(f"{share:7.3%}  {name}")
    whole = 1 - called / timed["wall"]
    print(f"{whole:7.3%}  in all; the goal is under {GOAL:.0%}")
    return whole < GOAL


def count_inside(session: Any) -> list[float]:
    """Seconds of every call of ONNX Runtime itself, as they come; the list grows with the runs."""
    inner, times = session._session, []

    class Counted:
        def run(self, outputs: Any, feeds: Any) -> Any:
            start = time.perf_counter_ns()
            found = inner.run(outputs, feeds)
            times.append((time.perf_counter_ns() - start) / 1e9)
            return found

    session._session = Counted()
    return times


def fitting_rows(path: Path) -> int:
    """Rows that make a small chain of products take about TARGET_MS here; the model is written to `path`."""
    import numpy as np

    rows = 1
    write_model(path)
    session = ort.load(str(path), {"threads": 1})
    while True:
        feeds = {"x": np.ones((rows, WIDTH), dtype=np.float32)}
        session.run(feeds)
        start = time.perf_counter()
        for _ in range(20):
            session.run(feeds)
        spent = (time.perf_counter() - start) / 20 * 1000
        if spent >= TARGET_MS * 0.8 or rows >= 4096:
            return rows
        rows = max(rows + 1, int(rows * min(4.0, TARGET_MS / spent)))


def write_model(path: Path) -> None:
    """LAYERS products of WIDTH x WIDTH."""
    import numpy as np
    import onnx

    make = onnx.helper
    weight = (np.random.default_rng(0).standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
    names = ["x", *(f"h{index}" for index in range(1, LAYERS)), "y"]
    nodes = [make.make_node("MatMul", [names[index], "w"], [names[index + 1]]) for index in range(LAYERS)]
    ends = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", "y")]
    graph = make.make_graph(nodes, "g", ends[:1], ends[1:], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), str(path))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
