"""A gate against a released bundle: refused in the first second where it cannot be compared, run over the same cases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import RECIPE, STEPS, Workbench, untimed

pytestmark = pytest.mark.ml
GATE = "  - {metric: artifact_mb"
WARNS = "  - {metric: accuracy, no_worse_than: v1, margin: 0.03, severity: warn}\n"
NO_WORSE = "  - {metric: accuracy, no_worse_than: v1, margin: 0.03}\n"
FLOAT = ("optimise: size", "optimise: size, candidates: [float]")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, shared_store: Path, answered: tuple[Path, Path]) -> Path:
    """The bundle of a model that is right in every case."""
    folder = tmp_path_factory.mktemp("released")
    text = RECIPE.replace(STEPS, "").format(model=answered[0], data=answered[1])
    (folder / "recipe.yaml").write_text(untimed(text.replace(*FLOAT)))
    bench = Workbench(folder, shared_store)
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    return folder / "out/tiny/targets/local-cpu"


def test_a_build_worse_than_what_is_shipped_has_nothing_to_choose(
    workbench: Callable[..., Workbench], released: Path, text_csv: Path, answered: tuple[Path, Path]
) -> None:
    """The shipped model is right in every case, and the search set shows already that the new one is not."""
    second = workbench(replace=[FLOAT, (GATE, NO_WORSE + GATE), (str(text_csv), str(answered[1]))])
    shutil.copytree(released, second.folder / "v1")
    run = second.run("build", "recipe.yaml")
    assert run.returncode == 1, run.stdout + run.stderr
    record = second.record()
    assert record["targets"][0]["candidates"][0]["why"].startswith("accuracy drops by 0.")
    assert "since v1 on the search set, the gate allows 0.03" in record["targets"][0]["candidates"][0]["why"]
    assert not record["openings"], "the gate set stays sealed"
    assert any(row["id"].startswith("released/v1-") and row["id"].endswith("/search") for row in record["steps"])


def test_the_gate_set_decides_against_what_is_shipped(
    workbench: Callable[..., Workbench], released: Path, text_csv: Path, answered: tuple[Path, Path]
) -> None:
    """A gate that only warns lets the worse model come so far: it is as good as its own source, which is not right."""
    before = json.loads((released / "../../record.json").read_text())["targets"][0]["gate_set"]["artefact"]["accuracy"]
    second = workbench(replace=[FLOAT, (GATE, WARNS + GATE), (str(text_csv), str(answered[1]))])
    shutil.copytree(released, second.folder / "v1")
    run = second.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    record = second.record()
    by_source, against = record["targets"][0]["verdicts"][1:]
    cases = record["targets"][0]["gate_set"]["n"]
    assert (by_source["status"], against["status"]) == ("PASS", "FAIL")
    assert against["gate"] == "accuracy no worse than released v1 by 0.03"
    assert f"against {before:.1%} of the released v1 on {cases} cases" in against["why"]
    assert len(record["openings"]) == 1, "source, bundle and candidate meet the gate set together"
    answers = [row for row in record["steps"] if row["id"].startswith("released/v1-")]
    assert {row["id"].rpartition("/")[2]: row["state"] for row in answers}["gate"] == "ran"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"other"), "model.onnx"),
        (lambda folder: reseal(folder, labels=["networkx", "jinja2", "rich"]), "its labels are networkx, jinja2, rich"),
        (lambda folder: reseal(folder, task="image-classification"), "that bundle does image-classification"),
        (lambda folder: reseal(folder, status="failed"), "did not pass its gates"),
        (lambda folder: shutil.rmtree(folder), "neither source nor the folder of a released bundle"),
    ],
)
def test_what_cannot_be_compared_is_told_in_the_plan(
    workbench: Callable[..., Workbench], released: Path, change: Callable[[Path], object], says: str
) -> None:
    labels = ("  label: label\n", "  label: label\n  labels: [jinja2, networkx, rich]\n")
    bench = workbench(replace=[(GATE, NO_WORSE + GATE), labels])
    shutil.copytree(released, bench.folder / "v1")
    change(bench.folder / "v1")
    run = bench.run("plan", "recipe.yaml")
    assert run.returncode == 2, run.stdout + run.stderr
    assert says in run.stderr and "gates[1].no_worse_than" in run.stderr and "error: recipe.yaml:" in run.stderr


def reseal(folder: Path, **changes: object) -> None:
    """The manifest with other statements, in the form it is written in."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    from edgeft.canonical import canonical_json

    path.write_bytes(canonical_json(manifest, indent=1))
