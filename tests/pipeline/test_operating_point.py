"""A threshold of the source from the recipe to the answer: frozen on the search set, gated, shipped, and used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.conftest import Workbench
from tests.pipeline.image_nets import CONV, write_digits
from tests.pipeline.test_images import CLASSES

pytestmark = pytest.mark.ml
POINT = "at_sensitivity: 0.95"
GATES = f"""\
  - {{metric: sensitivity_2, {POINT}, no_worse_than: source, margin: 0.3}}
  - {{metric: specificity_2, {POINT}, at_least: 0.5}}
"""

TWO_TARGETS = (
    CLASSES.replace("{", "{{")
    .replace("}", "}}")
    .replace("gates:", "  - {{device: board.yaml, export: [onnx], optimise: size, candidates: [float]}}\ngates:")
    + """\
  - {{metric: specificity_2, at_sensitivity: 0.95, at_least: 0.5{first}}}
  - {{metric: sensitivity_2, at_specificity: 0.9, at_least: 0.5{second}}}
"""
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A finished build of three digits, of which `2` is the finding."""
    bench = Workbench(tmp_path_factory.mktemp("point"), tmp_path_factory.mktemp("store"))
    write_digits(bench.folder / "images")
    (bench.folder / "net.py").write_text(CONV)
    (bench.folder / "recipe.yaml").write_text(CLASSES + GATES)
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    return bench


def source_of(bench: Workbench) -> tuple[Any, Any]:
    """(the source's probability of `2` on the search set, whether it is one), from the store."""
    from edgeft.data.table import read_split
    from edgeft.tasks.classification import softmax

    rows = {row["id"]: row["digest"] for row in bench.record()["steps"]}
    objects = bench.store / "objects"
    logits = np.load(objects / rows["source/search"][:2] / rows["source/search"] / "outputs.npz")["logits"]
    truth = np.array(
        read_split(objects / rows["data"][:2] / rows["data"] / "search.parquet").column("label").to_pylist()
    )
    return softmax(logits)[:, 2], truth == 2


def test_the_bundle_has_the_threshold_that_the_source_had_on_the_search_set(bench: Workbench) -> None:
    bundle = bench.folder / "out/tiny/targets/local-cpu"
    post = json.loads((bundle / "postprocess.json").read_text())
    assert list(post["thresholds"]) == ["2"] and post["rule"].startswith("of the labels whose probability reaches")
    chance, positive = source_of(bench)
    least = post["thresholds"]["2"]
    assert (chance[positive] >= least).mean() >= 0.95, "the source is that sensitive there"
    next_one = chance[chance >= least].min()
    assert (chance[positive] > next_one).mean() < 0.95, "and nowhere above"
    gate_set = bench.record()["targets"][0]["gate_set"]
    assert gate_set["thresholds"] == {"2 at the source's sensitivity of 0.95": least}
    assert "Frozen thresholds: `2` from" in (bundle / "INTEGRATION.md").read_text()


def test_the_verdicts_say_where_the_threshold_comes_from(bench: Workbench) -> None:
    compared, alone = bench.record()["targets"][0]["verdicts"][2:]
    assert compared["gate"] == "sensitivity_2 at the source's sensitivity of 0.95 no worse than source by 0.3"
    assert compared["status"] == alone["status"] == "PASS"
    assert "labelled '2'" in compared["why"] and "not labelled '2'" in alone["why"]
    assert "Clopper-Pearson" in alone["method"]


def test_answers_use_it(bench: Workbench) -> None:
    """Every image of the folder: the label is `2` exactly from the threshold on, whatever is likelier."""
    bundle = bench.folder / "out/tiny/targets/local-cpu"
    least = json.loads((bundle / "postprocess.json").read_text())["thresholds"]["2"]
    names = [str(path) for digit in "012" for path in sorted((bench.folder / "images" / digit).iterdir())[:25]]
    (bench.folder / "names.txt").write_text("\n".join(names))
    import subprocess
    import sys

    with (bench.folder / "names.txt").open() as names_file:
        run = subprocess.run(
            [sys.executable, "-m", "edgeft", "run", str(bundle), "-", "--json"],
            stdin=names_file, env=bench.env(), capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(names)
    for answer in found:
        chance = {row["label"]: row["probability"] for row in answer["top"]}
        assert (answer["label"] == "2") == (chance["2"] >= least)
        assert answer.get("threshold") == (least if answer["label"] == "2" else None)
    assert {answer["label"] for answer in found} == {"0", "1", "2"}


def test_two_thresholds_of_one_label_are_refused(bench: Workbench, tmp_path: Path) -> None:
    other = GATES.replace(POINT, "at_specificity: 0.9", 1)
    (bench.folder / "two.yaml").write_text(CLASSES + other)
    run = bench.run("plan", "two.yaml")
    assert run.returncode == 2
    assert "gates[3].at_sensitivity: gates[2] fixes another threshold of '2'" in run.stderr


@pytest.mark.parametrize(("first", "second"), [("", ", device: board"), (", device: board", ", device: board")])
def test_two_gates_that_hold_on_one_target_fix_one_threshold(bench: Workbench, first: str, second: str) -> None:
    (bench.folder / "board.yaml").write_text("name: board\n")
    (bench.folder / "two.yaml").write_text(TWO_TARGETS.format(first=first, second=second))
    run = bench.run("plan", "two.yaml")
    assert run.returncode == 2
    assert "gates[3].at_specificity: gates[2] fixes another threshold" in run.stderr and "device: in both" in run.stderr


def test_each_target_may_have_a_threshold_of_its_own(bench: Workbench) -> None:
    (bench.folder / "board.yaml").write_text("name: board\n")
    (bench.folder / "two.yaml").write_text(TWO_TARGETS.format(first=", device: local-cpu", second=", device: board"))
    run = bench.run("build", "two.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    here, there = bench.record()["targets"]
    found = {}
    for target, point in ((here, "sensitivity of 0.95"), (there, "specificity of 0.9")):
        post = json.loads((bench.folder / "out/tiny" / target["folder"] / "postprocess.json").read_text())
        assert post["points"] == {"2": point}
        assert target["gate_set"]["thresholds"] == {f"2 at the source's {point}": post["thresholds"]["2"]}
        assert [row["gate"].split(" at the source's ")[-1] for row in target["verdicts"][2:]] == [
            f"{point} at least 0.5"
        ]
        found[target["device"]] = post["thresholds"]["2"]
    assert found["local-cpu"] != found["board"]
