"""What `candidates` of a target may name, with a search and without, and what those of fixed ranges need: told by the plan."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.errors import RecipeError, StepError
from edgeft.pipeline.build import Options, prepare_build
from edgeft.pipeline.plan import Plan
from edgeft.pipeline.progress import Plain
from edgeft.pipeline.steps.answers import read_cases
from edgeft.recipe.load import load_recipe
from edgeft.store import Store
from tests import outliers
from tests.pipeline.conftest import Workbench
from tests.stages.world import World

Bench = Callable[..., Workbench]
PLAIN = "export: [onnx], optimise: size"
UNCALIBRATED = ("calibration: 0.05, search: 0.15", "calibration: 0, search: 0.2")


def planned(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(bench.folder)
    loaded = load_recipe("recipe.yaml")
    return prepare_build(loaded, Store(bench.folder / "store"), Options(), Plain(io.StringIO())).plan


@pytest.mark.parametrize("search", ["", ", search: {}"])
def test_an_unknown_candidate_is_refused_at_its_place(
    workbench: Bench, monkeypatch: pytest.MonkeyPatch, search: str
) -> None:
    wrong = f"export: [onnx], candidates: [float, int8-statc]{search}, optimise: size"
    bench = workbench(replace=[(PLAIN, wrong)])
    with pytest.raises(RecipeError, match="no candidate is called 'int8-statc'") as caught:
        planned(bench, monkeypatch)
    assert "did you mean 'int8-static'?" in caught.value.hint
    assert "candidates[1]" in caught.value.where
    line = next(line for line in caught.value.excerpt.splitlines() if "^" in line)
    assert caught.value.excerpt.splitlines()[0][line.index("^") :].startswith("int8-statc")


def test_a_rung_of_the_search_is_no_candidate_without_one(workbench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = "export: [onnx], candidates: [int8-static-mse], optimise: size"
    with pytest.raises(RecipeError, match="no candidate is called 'int8-static-mse'") as caught:
        planned(workbench(replace=[(PLAIN, wanted)]), monkeypatch)
    assert caught.value.hint == "a search tries it: add `search: {}` to this target"
    plan = planned(workbench(replace=[(PLAIN, f"search: {{}}, {wanted}")]), monkeypatch)
    assert [candidate.name for candidate in plan.candidates] == ["onnx/float"]


@pytest.mark.parametrize(
    "target",
    [
        PLAIN,
        "export: [onnx], candidates: [int8-static], optimise: size",
        "export: [onnx], candidates: [int8-static-mse, int8-nncf], search: {}, optimise: size",
    ],
)
def test_fixed_ranges_without_calibration_cases_are_refused_at_the_fraction(
    workbench: Bench, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    bench = workbench(replace=[UNCALIBRATED, (PLAIN, target)])
    with pytest.raises(RecipeError, match="is made from calibration cases, and 0 leaves none") as caught:
        planned(bench, monkeypatch)
    assert caught.value.where.endswith("data.fractions.calibration") and "recipe.yaml:10:" in caught.value.where


@pytest.mark.parametrize("target", ["candidates: [float, int8-dynamic]", "search: {}"])
def test_what_can_do_without_calibration_cases_is_planned(
    workbench: Bench, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    planned(workbench(replace=[UNCALIBRATED, (PLAIN, f"export: [onnx], {target}, optimise: size")]), monkeypatch)


@pytest.mark.ml
def test_a_file_that_is_quantised_already_is_told_at_its_key(
    workbench: Bench, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.quantization import quantize_dynamic

    bench = workbench()
    text = (bench.folder / "recipe.yaml").read_text()
    kept = [line for line in text.splitlines() if "finetune" not in line and line != "steps:"]
    given = f"model: {{onnx: net.onnx, tokenizer: {tiny_bert}, task: text-classification}}"
    text = "\n".join(given if line.startswith("model:") else line for line in kept) + "\n"
    (bench.folder / "recipe.yaml").write_text(text)
    plain = outliers.save_mlp(bench.folder / "plain").path / "model.onnx"
    quantize_dynamic(plain, bench.folder / "net.onnx")
    said = r"net.onnx is already quantised: 3 DynamicQuantizeLinear, 3 MatMulInteger"
    with pytest.raises(RecipeError, match=said) as caught:
        planned(bench, monkeypatch)
    assert caught.value.where.endswith("model.onnx") and "edgeft profile" in caught.value.hint
    (bench.folder / "net.onnx").write_bytes(plain.read_bytes())
    planned(bench, monkeypatch)


def test_a_step_without_its_cases_says_which_split_is_empty(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="the calibration split is empty") as caught:
        read_cases(World(tmp_path).context("calibrate"), "calibration", None)
    assert "data.fractions.calibration" in caught.value.hint and caught.value.where == "step calibrate"


@pytest.mark.ml
@pytest.mark.slow
def test_a_search_that_has_nothing_to_try_says_why(workbench: Bench, answered: tuple[Path, Path]) -> None:
    """Equalisation is of convolutional networks, and the model is a text encoder."""
    bench = workbench(
        replace=[(PLAIN, "export: [onnx], candidates: [int8-static-equalised], search: {}, optimise: size")]
    )
    recipe = bench.folder / "recipe.yaml"
    text = recipe.read_text()
    kept = [line for line in text.splitlines() if "finetune" not in line and line != "steps:"]
    model, rows = answered
    (place,) = [line for line in kept if line.startswith("model:")]
    (data,) = [line for line in kept if line.startswith("  path:")]
    stated = {place: f"model: {{path: {model}, task: text-classification}}", data: f"  path: {rows}"}
    recipe.write_text("\n".join(stated.get(line, line) for line in kept) + "\n")
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    assert "search: No compressed candidate was tried: onnx offers this model none of `candidates`" in run.stdout
    assert bench.record()["targets"][0]["chosen"] == "onnx/float"
