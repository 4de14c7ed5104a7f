"""What exporters say of a model reaches the record and the page: an operator that one cannot take, notes of another."""

from __future__ import annotations

import pytest

from tests.pipeline.conftest import Workbench
from tests.pipeline.image_nets import CONV, DIGITS, write_digits

pytestmark = pytest.mark.ml
for package in ("ncnn", "pnnx"):
    pytest.importorskip(package)

SORTED = CONV.replace("self.body(x).flatten(1)", "torch.sort(self.body(x).flatten(1)).values")
RECIPE = (
    """\
name: tiny
model: {code: net.py:build, weights: net.safetensors, task: image-classification}
"""
    + DIGITS
    + """\
measure: {protocol: none}
targets:
  - {device: local-cpu, export: [ort, ncnn], optimise: size, candidates: [float, fp16]}
gates:
  - {metric: accuracy, no_worse_than: source, margin: 0.2}
"""
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A finished build of a network that sorts its features, on ONNX Runtime's mobile format and on ncnn."""
    import runpy

    from safetensors.torch import save_file

    bench = Workbench(tmp_path_factory.mktemp("sorted"), tmp_path_factory.mktemp("store"))
    write_digits(bench.folder / "images", each=60)
    (bench.folder / "net.py").write_text(SORTED)
    save_file(runpy.run_path(str(bench.folder / "net.py"))["build"](3).state_dict(), bench.folder / "net.safetensors")
    (bench.folder / "recipe.yaml").write_text(RECIPE)
    done = bench.run("build", "recipe.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    return bench


def page(bench: Workbench) -> str:
    return (bench.folder / "out" / "tiny" / "report.html").read_text()


def test_an_operator_that_a_format_lacks_is_a_row_with_its_name_and_the_build_goes_on(built: Workbench) -> None:
    (target,) = built.record()["targets"]
    rows = {row["name"]: row for row in target["candidates"]}
    assert target["chosen"] == "ort/float"
    refused = rows["ncnn/float"]
    assert refused["status"] == "unsupported" and refused["metrics"] == [] and not refused["digest"]
    operator, _, reason = refused["why"].partition(": ")
    assert operator in ("aten::sort", "torch.sort") and "ncnn has no layer for it" in reason
    assert rows["ncnn/fp16"]["status"] == "unsupported"
    assert rows["ncnn/fp16"]["why"] == f"there is no float export: {refused['why']}"
    text = page(built)
    assert operator in text and "ncnn has no layer for it" in text


def test_the_mobile_checkers_verdict_and_the_operators_an_app_needs_are_told(built: Workbench) -> None:
    (target,) = built.record()["targets"]
    row = next(row for row in target["candidates"] if row["name"] == "ort/float")
    assert any("mobile checker on NNAPI: " in note for note in row["notes"]), row["notes"]
    assert any("mobile checker on CoreML MLProgram: " in note for note in row["notes"]), row["notes"]
    text = page(built)
    assert all(note.split(";")[0].replace("'", "&#39;") in text for note in row["notes"])
    bundle = next((built.folder / "out" / "tiny").rglob("required_operators.config"), None)
    assert bundle is not None and "Conv" in bundle.read_text()
