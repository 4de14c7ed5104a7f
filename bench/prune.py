"""What pruning buys on the quickstart's task: int8 after each of two pruning steps against int8 before them.

The trunk is built once: the quickstart's fine-tuning, then four of six layers (as the shipped recipe text/pruned),
then a quarter of heads and neurons less, each healed for 100 steps. The int8-dynamic artefacts are timed in one process
on one thread, in blocks A B C C B A, so that drift falls on all alike. Accuracy is of the whole search split, which
nothing trained on; differences are paired, by the flips of single cases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.unet import interleave, ratio

STEPS = ("merge", "layers", "width")
RECIPE = """name: bench-prune
extends: edgeft:text/quickstart
steps:
  - finetune: {method: qlora, rank: 16, alpha: 32, dropout: 0.0, target_modules: all-linear, max_steps: 170,
      batch_size: 32, group_by_length: true, learning_rate: 0.002, schedule: cosine, warmup: 0.06, weight_decay: 0.01,
      eval_steps: 85, metric: accuracy}
  - merge: {base: measure}
  - prune: {id: layers, method: depth, drop: 2, heal_steps: 100, heal_learning_rate: 0.0001}
  - prune: {id: width, method: structured, ratio: 0.25, round_to: 16, heal_steps: 100, heal_learning_rate: 0.0001}
"""


def main(blocks: int = 30, runs: int = 20) -> None:
    """Print size, time and accuracy after each step, and how much faster than before; a sentence without the extra."""
    if find_spec("torch_pruning") is None:
        print("prune: skipped, it needs torch-pruning: pip install 'edgeft[prune]'")
        return
    with TemporaryDirectory() as name:
        record = build(Path(name))
        made = {step: prepare(record, step, Path(name) / step) for step in STEPS}
        times = interleave({step: run for step, (run, _, _) in made.items()}, blocks, runs)
    for step, (_, right, size) in made.items():
        first, values = made[STEPS[0]][1], times[step]
        flips = f"{int((first & ~right).sum())} lost, {int((~first & right).sum())} gained"
        faster = "" if step == STEPS[0] else f"; {ratio(times[STEPS[0]], values)}"
        print(f"{step}: {size:.1f} MB, {median(values):.2f} ms, {right.mean():.4f} of {len(right)} ({flips}){faster}")


def build(folder: Path) -> dict[str, Any]:
    """record.json of the trunk."""
    (folder / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "edgeft", "build", "recipe.yaml", "--to", STEPS[-1]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads((folder / "out/bench-prune/record.json").read_text())
    return found


def prepare(record: dict[str, Any], step: str, folder: Path) -> tuple[Any, Any, float]:
    """(a run on the longest search case, which search cases it gets right, megabytes) of a step's int8-dynamic."""
    import numpy as np
    from edgeft_exporters.onnx.exporter import OnnxExporter

    from edgeft.artifact import Artifact
    from edgeft.data.table import read_split
    from edgeft.device.profile import load_device
    from edgeft.runtimes import ort
    from edgeft.stage import Context
    from edgeft.store import Store
    from edgeft.tasks.text_classification import TextClassification

    place, digests = Store().layout.object, {row["id"]: row["digest"] for row in record["steps"]}
    task, prepared = TextClassification(), place(digests["prepare"])
    context = Context("bench", 0, folder, task, tuple(record["data"]["labels"]), prepared=prepared)
    exporter, device = OnnxExporter(), load_device("local-cpu")
    for part in ("float", "int8"):
        (folder / part).mkdir(parents=True)
    model = Artifact("torch-model", place(digests[step]), "", {"form": "transformers"})
    exporter.export(model, exporter.settings(device, {"batch": 1, "length": 64}), folder / "float", context)
    variant = next(item for item in exporter.ladder(device) if item.name == "int8-dynamic")
    exporter.compress(Artifact("onnx", folder / "float", ""), variant, None, folder / "int8", context)
    session = ort.load(str(folder / "int8/model.onnx"), {"threads": 1})
    rows = read_split(place(digests["data"]) / "search.parquet")
    feeds = {name: np.ascontiguousarray(array) for name, array in task.feeds(rows, prepared).items()}

    def case(index: int) -> dict[str, Any]:
        return {name: array[index : index + 1] for name, array in feeds.items()}

    logits = np.concatenate([session.run(case(index))["logits"] for index in range(rows.num_rows)])
    right = logits.argmax(axis=1) == rows.column("label").to_numpy()
    longest = case(int(feeds["attention_mask"].sum(axis=1).argmax()))
    return partial(session.run, longest), right, (folder / "int8/model.onnx").stat().st_size / 1e6


if __name__ == "__main__":
    main()
