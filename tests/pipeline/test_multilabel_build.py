"""Images with any number of labels through the real command: two real digits side by side, each its own label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.conftest import Workbench
from tests.pipeline.image_nets import CONV

pytestmark = [pytest.mark.ml, pytest.mark.slow]

ROWS = '''\
"""Pairs of scikit-learn's digits: the labels are those of `one` and `two` that are among them; many have neither."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def load(folder):
    found, root = load_digits(), Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(2).permutation(len(found.images))[:900].reshape(-1, 2)
    for case, (left, right) in enumerate(draw):
        pixels = np.concatenate([found.images[left], found.images[right]], axis=1) * 15.9
        file = root / f"{case:03d}.png"
        Image.fromarray(pixels.astype(np.uint8)).resize((16, 16)).save(file)
        digits = {int(found.target[left]), int(found.target[right])}
        names = [name for name, those in (("low", {0, 1, 2, 3}), ("high", {7, 8, 9})) if digits & those]
        yield {"image": file.name, "file": str(file), "label": "|".join(names)}
'''
RECIPE = """\
name: tiny
model: {code: net.py:build, initialise: true, task: image-multilabel}
data:
  source: python
  path: rows.py:load
  options: {folder: made}
  labels: [low, high]
  fractions: {train: 0.4, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.3}
serve: {batch: 1, height: 16, width: 16}
seed: 3
steps:
  - finetune: {method: full, epochs: 10, batch_size: 16, learning_rate: 0.01}
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [onnx], optimise: size, candidates: [float]}
gates:
  - {metric: label_accuracy, at_least: 0.55}
  - {metric: auroc_low, at_least: 0.6}
  - {metric: sensitivity_high, at_specificity: 0.8, no_worse_than: source, margin: 0.2}
  - {metric: flip_rate, at_most: 0.1}
"""


def test_from_rows_to_answers_with_several_labels(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, tmp_path / "store")
    for name, text in (("net.py", CONV), ("rows.py", ROWS), ("recipe.yaml", RECIPE)):
        (tmp_path / name).write_text(text)
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    record = bench.record()
    assert record["data"]["labels"] == ["low", "high"]
    classes = {row["name"]: row["classes"] for row in record["data"]["splits"]}["train"]
    assert min(classes.values()) > 40 and sum(classes.values()) != 180, "some have both labels, some none"
    losses = [point["loss"] for point in record["training"][0]["curve"] if point.get("loss")]
    assert losses[-1] < 0.8 * losses[0]
    bundle = tmp_path / "out/tiny/targets/local-cpu"
    post = json.loads((bundle / "postprocess.json").read_text())
    assert (post["activation"], list(post["thresholds"])) == ("sigmoid", ["high"])
    assert post["rule"].startswith("each label whose probability is at least its threshold")
    pictures = sorted((tmp_path / "made").iterdir())[:40]
    asked = [bench.run("run", str(bundle), str(picture), "--json") for picture in pictures[:3]]
    for answer in [json.loads(one.stdout) for one in asked]:
        limits = {"low": 0.5, "high": post["thresholds"]["high"]}
        assert answer["labels"] == [name for name, at in limits.items() if answer["probabilities"][name] >= at]
    page = (tmp_path / "out/tiny/report.html").read_text()
    assert "In short" in page and "true \\ predicted" not in page
    assert np.isfinite(record["targets"][0]["gate_set"]["artefact"]["auroc_low"])
