"""What pruning buys on the quickstart's task: int8 of pruned and healed MiniLMs against int8 of the unpruned one.

Each variant is built by `edgeft build --to prune` on one store, so the fine-tuning runs once; then all int8 artefacts
are timed in one process on one thread, in blocks A B C .. C B A, so that drift falls on all alike. Accuracy is of the
search split, which nothing trained on; differences are paired, by the flips of single cases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.unet import interleave, ratio

HEAL = "heal_steps: 120, heal_learning_rate: 0.0001, heal_distil: true"
VARIANTS: dict[str, tuple[str, ...]] = {
    "unpruned": (),
    "depth 6 to 4": (f"method: depth, drop: 2, {HEAL}",),
    "structured 0.3": (f"method: structured, ratio: 0.3, round_to: 16, {HEAL}",),
    "structured 0.5": (f"method: structured, ratio: 0.5, round_to: 16, {HEAL}",),
    "depth 6 to 4, then structured 0.3": (
        f"id: layers, method: depth, drop: 2, {HEAL}",
        f"method: structured, ratio: 0.3, round_to: 16, {HEAL}",
    ),
}
"""Name -> its pruning steps; the last one is called prune."""
RECIPE = """name: bench-prune
extends: edgeft:text/quickstart
steps:
  - finetune: {method: qlora, rank: 16, alpha: 32, dropout: 0.0, target_modules: all-linear, max_steps: 170,
      batch_size: 32, group_by_length: true, learning_rate: 0.002, schedule: cosine, warmup: 0.06, weight_decay: 0.01,
      eval_steps: 85, metric: accuracy}
  - merge: {base: measure}
"""


def main(blocks: int = 30, runs: int = 20) -> None:
    """Print size, time and accuracy of each variant, and its speed-up; a sentence without the extra."""
    from importlib.util import find_spec

    if find_spec("torch_pruning") is None:
        print("prune: skipped, it needs torch-pruning: pip install 'edgeft[prune]'")
        return
    with TemporaryDirectory() as name:
        root = Path(name)
        made = {variant: build(root / f"v{index}", texts) for index, (variant, texts) in enumerate(VARIANTS.items())}
        sessions, answers, facts = {}, {}, {}
        for variant, folder in made.items():
            sessions[variant], answers[variant], facts[variant] = prepare(folder)
        times = interleave(sessions, blocks, runs)
    for variant, values in times.items():
        correct, first = answers[variant], answers["unpruned"]
        flips = f"{int((first & ~correct).sum())} lost, {int((~first & correct).sum())} gained"
        faster = "" if variant == "unpruned" else f"; {ratio(times['unpruned'], values)}"
        print(f"{variant}: {facts[variant]}, {median(values):.2f} ms, "
              f"accuracy {correct.mean():.4f} of {len(correct)} ({flips}){faster}")  # fmt: skip


def build(folder: Path, prunes: tuple[str, ...]) -> Path:
    """The outcome's folder of a build that ends at the variant's last trunk step."""
    folder.mkdir()
    steps = "".join(f"  - prune: {{{options}}}\n" for options in prunes)
    (folder / "recipe.yaml").write_text(RECIPE + steps)
    command = [sys.executable, "-m", "edgeft", "build", "recipe.yaml", "--to", "prune" if prunes else "merge"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return folder / "out/bench-prune"


def prepare(outcome: Path) -> tuple[Any, Any, str]:
    """(one run on one case, which search cases its int8 gets right, size in words) of the last step's model."""
    import numpy as np
    from edgeft_exporters.onnx import OnnxExporter

    from edgeft.artifact import Artifact
    from edgeft.data.table import read_split
    from edgeft.device.profile import load_device
    from edgeft.runtimes import ort
    from edgeft.stage import Context
    from edgeft.store import Store
    from edgeft.tasks.text_classification import TextClassification

    record = json.loads((outcome / "record.json").read_text())
    done = {row["id"]: row for row in record["steps"] if row["digest"]}
    place = Store().layout.object
    last = "prune" if "prune" in done else "merge"
    task, prepared = TextClassification(), place(done["prepare"]["digest"])
    context = Context("bench", 0, outcome, task, tuple(record["data"]["labels"]), prepared=prepared)
    exporter, device = OnnxExporter(), load_device("local-cpu")
    plain, int8 = outcome / "float", outcome / "int8"
    plain.mkdir(), int8.mkdir()
    model = Artifact("torch-model", place(done[last]["digest"]), "", {"form": "transformers"})
    exporter.export(model, exporter.settings(device, {"batch": 1, "length": 64}), plain, context)
    variant = next(item for item in exporter.ladder(device) if item.name == "int8-dynamic")
    exporter.compress(Artifact("onnx", plain, ""), variant, None, int8, context)
    session = ort.load(str(int8 / "model.onnx"), {"threads": 1})
    rows = read_split(place(done["data"]["digest"]) / "search.parquet")
    feeds = {name: np.ascontiguousarray(array) for name, array in task.feeds(rows, prepared).items()}
    logits = np.concatenate([
        session.run({name: array[index : index + 1] for name, array in feeds.items()})["logits"]
        for index in range(rows.num_rows)
    ])  # fmt: skip
    correct = logits.argmax(axis=1) == rows.column("label").to_numpy()
    full = int(feeds["attention_mask"].sum(axis=1).argmax())
    one = {name: array[full : full + 1] for name, array in feeds.items()}
    size = f"{(int8 / 'model.onnx').stat().st_size / 1e6:.1f} MB"
    return partial(session.run, one), correct, size


if __name__ == "__main__":
    main()
