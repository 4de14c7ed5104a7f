"""medical/brain-tissue: base on clean slices, adapted, pruned; what it claims, and what it says it cannot."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeft.cli import main
from edgeft.errors import RecipeError
from edgeft.pipeline.checks.only_rows import check_only
from edgeft.recipe.load import LoadedRecipe, load_recipe
from tests.pipeline.conftest import Workbench

ROOT = Path(__file__).parents[2]
NAME = "medical/brain-tissue"


def test_a_copy_is_the_same_recipe(project: Path) -> None:
    assert main(["recipes", "copy", NAME]) == 0
    assert load_recipe("brain-tissue.yaml").recipe == load_recipe(f"edgeft:{NAME}").recipe


def test_it_says_what_it_is_not() -> None:
    recipe = load_recipe(f"edgeft:{NAME}").recipe
    base, adapt, prune = recipe.steps
    assert (base.id, adapt.id, prune.name) == ("base", "adapt", "prune")
    assert base.columns == ("scanner",) and adapt.columns == ()
    assert recipe.data.options["scanners"] == ["plain", "bias", "noise", "contrast"] and recipe.data.group == "slab"
    clinical = [gate for gate in recipe.gates if gate.unit == "patient"]
    assert [gate.severity for gate in clinical] == ["warn"], "one average brain cannot stop or ship anything"
    assert any(gate.by == "scanner" and gate.severity == "block" for gate in recipe.gates)
    assert {target.device for target in recipe.targets} == {"local-cpu", "cortex-a76-emulated"}
    text = (ROOT / f"recipes/{NAME}.yaml").read_text(encoding="utf-8")
    assert "ONE average" in text and "made up" in text


def dataset(*values: str) -> dict[str, Any]:
    about = {"n": 9, "by": {"scanner": {value: {"n": 3} for value in values}}}
    return {"splits": {"train": about, "validation": about}}


def loaded_with(only: str) -> LoadedRecipe:
    return load_recipe(f"edgeft:{NAME}", [f"base.only={only}"])


def test_a_value_that_no_row_has_is_told_before_anything_trains() -> None:
    check_only(loaded_with("{scanner: plain}"), dataset("plain", "bias"))
    check_only(loaded_with("{scanner: [plain, bias]}"), dataset("plain", "bias"))
    with pytest.raises(RecipeError, match="no row of the train split has 'plian' in column 'scanner'") as caught:
        check_only(loaded_with("{scanner: [plain, plian]}"), dataset("plain", "bias"))
    assert "did you mean 'plain'" in caught.value.hint and "only" in caught.value.where


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(RecipeError):
        loaded_with("{scanner: []}")


SETS = (
    "data.options.scanners=[plain,bias]", "base.epochs=4", "adapt.epochs=1", "prune.heal_epochs=1",
    "targets=[{device: local-cpu, export: [onnx], candidates: [float, int8-static]}]",
    "gates=[{metric: artifact_mb, at_most: 0.2}, {metric: mean_dice, no_worse_than: source, margin: 0.3, unit: patient, severity: warn}]",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.ml
def test_it_builds_reduced(tmp_path: Path) -> None:
    """Few steps on real slices: adapter merged, network thinner, the rule reported, one patient decides nothing."""
    pytest.importorskip("nilearn")
    bench = Workbench(tmp_path, tmp_path / "store")
    run = bench.run("build", f"edgeft:{NAME}", *[word for text in SETS for word in ("--set", text)], timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    record = bench.record("brain-tissue")
    steps = [row["id"] for row in record["steps"]]
    assert steps.index("adapt/foreseen") < steps.index("base") < steps.index("adapt") < steps.index("merge")
    trained = {row["step"]: row for row in record["training"]}
    assert trained["base"]["steps"] == 4 * 27 // 9 and trained["adapt"]["steps"] == 2 * 27 // 9
    target = record["targets"][0]
    gate_set = target["gate_set"]
    assert gate_set["rule"].startswith("two thresholds on the brightness")
    assert 0.5 < gate_set["by_rule"]["mean_dice"] < 1
    clinical = target["verdicts"][-1]
    assert (clinical["status"], clinical["severity"], clinical["units"]) == ("INCONCLUSIVE", "warn", 1)
    assert "without a network: two thresholds" in run.stdout + run.stderr
    check_segmentation(bench, tmp_path)


def check_segmentation(bench: Workbench, folder: Path) -> None:
    """The way of docs/medical.md: a series in, a segmentation out, on the series' own grid, of coded tissues."""
    dcmread = pytest.importorskip("pydicom").dcmread
    made = [sys.executable, "-m", "edgeft_recipes.medical.brain_series", str(folder / "series")]
    subprocess.run(made, check=True, timeout=120)
    bundle = str(folder / "out" / "brain-tissue")
    run = bench.run("run", bundle, "--dicom", str(folder / "series"), "--out", str(folder / "seg"), timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    written = dcmread(next((folder / "seg").glob("*.dcm")))
    assert written.Modality == "SEG" and (written.Rows, written.Columns) == (192, 80)
    kinds = [item.SegmentedPropertyTypeCodeSequence[0] for item in written.SegmentSequence]
    assert [(kind.CodeValue, kind.CodingSchemeDesignator) for kind in kinds] == [
        ("389081007", "SCT"),
        ("389080008", "SCT"),
    ]
    if validator := shutil.which("dciodvfy"):
        for file in (next((folder / "series").glob("*.dcm")), next((folder / "seg").glob("*.dcm"))):
            told = subprocess.run([validator, str(file)], capture_output=True, text=True, timeout=60)
            assert not [line for line in told.stderr.splitlines() if line.startswith("Error")]
