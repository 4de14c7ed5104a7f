"""The medical recipes whose data the user brings: planned, and one built reduced, on generated files of that format."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.recipe.load import load_recipe
from tests.medical.files import chest_study, medmnist_file
from tests.pipeline.conftest import Workbench

LABELS = {"pneumonia-medmnist": ("normal", "pneumonia"), "chest-xray-dicom": ("normal", "abnormal")}

GATES = "[{metric: artifact_mb, at_most: 3}, {metric: accuracy, at_least: 0.5}]"


def write_data(folder: Path, name: str) -> Path:
    """What the recipe's DATA names."""
    if name == "pneumonia-medmnist":
        return medmnist_file(folder / "pneumoniamnist.npz", sizes=(320, 130, 400))
    pytest.importorskip("pydicom")
    root = chest_study(folder / "study", patients=40)
    table = root / "cases.csv"
    table.write_text(table.read_text().replace(",ill,", ",abnormal,").replace(",well,", ",normal,"))
    return root


@pytest.mark.parametrize("name", sorted(LABELS))
def test_a_plan_on_files_of_that_format(tmp_path: Path, name: str) -> None:
    bench = Workbench(tmp_path, tmp_path / "store")
    data = write_data(tmp_path, name)
    run = bench.run("plan", f"edgeft:medical/{name}", env={"DATA": str(data)})
    assert run.returncode == 0, run.stdout + run.stderr
    assert {"data", "prepare", "finetune"} <= set(run.stdout.split())
    assert ("local-cpu/preprocess" in run.stdout) == (name == "chest-xray-dicom")


@pytest.mark.parametrize("name", sorted(LABELS))
def test_what_the_recipes_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("DATA", str(write_data(tmp_path, name)))
    recipe = load_recipe(f"edgeft:medical/{name}").recipe
    assert recipe.data.labels == LABELS[name] and recipe.data.expect is not None
    assert (recipe.preprocess is not None) == (recipe.data.source == "dicom")
    flips = [stage.augment.flip for stage in recipe.steps if stage.name == "finetune"]  # type: ignore[attr-defined]
    assert flips == [False], "a mirrored chest has its heart on the other side"


@pytest.mark.slow
@pytest.mark.ml
def test_pneumonia_builds_reduced_to_the_end(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, tmp_path / "store")
    data = write_data(tmp_path, "pneumonia-medmnist")
    sets = [
        "finetune.epochs=4",
        "finetune.batch_size=16",
        "finetune.eval_steps=40",
        "targets.0.optimise=size",
        "serve.height=32",
        "serve.width=32",
        "targets.0.export=[onnx]",
        "data.expect=null",
        f"gates={GATES}",
    ]
    words = [word for text in sets for word in ("--set", text)]
    run = bench.run("build", "edgeft:medical/pneumonia-medmnist", *words, timeout=1500, env={"DATA": str(data)})
    record = bench.record("pneumonia-medmnist")
    assert run.returncode == 0, run.stdout + run.stderr
    sizes = {split["name"]: split["n"] for split in record["data"]["splits"]}
    assert sizes["train"] == 320 and sizes["gate"] == 400
    assert sizes["validation"] + sizes["calibration"] + sizes["search"] == 130
    assert any("not grouped by patient" in text for text in record["data"]["warnings"])
    assert record["source"]["accuracy"] > 0.8
    assert "not grouped by patient" in (tmp_path / "out/pneumonia-medmnist/report.html").read_text()
