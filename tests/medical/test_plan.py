"""What a recipe with medical images is refused for before anything runs, at its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft import plugins
from edgeft.errors import RecipeError
from edgeft.pipeline.checks.image_checks import check_images
from edgeft.recipe.load import load_recipe
from tests.medical.files import disc, write_dicom, write_table

pytest.importorskip("pydicom")

RECIPE = """\
name: demo
model: {code: net.py:build, initialise: true, task: image-classification}
data: {source: dicom, path: study}
preprocess: {window: [0, 1000]}
serve: {batch: 1, height: 16, width: 16}
steps:
  - finetune: {method: full}
targets:
  - {device: local-cpu, export: [onnx]}
gates:
  - {metric: accuracy, at_least: 0.5}
"""
Change = tuple[str, str]
WINDOW: Change = ("preprocess: {window: [0, 1000]}\n", "")
SOURCE: Change = ("source: dicom, path: study", "source: image-folder, path: study")
REFUSED: list[tuple[list[Change], str, str, str]] = [
    ([WINDOW], "demo.yaml:3 data.source", "which range becomes black to white is not said", "window: [lo, hi]"),
    ([("window: [0, 1000]", "invert: false")], "demo.yaml:4 preprocess", "is not said", "window: [lo, hi]"),
    ([SOURCE], "demo.yaml:4 preprocess.window", "pictures of 8 bits", "dicom, nifti"),
    ([("width: 16", "width: 16, embed_preprocessing: bytes")], "demo.yaml:5 serve.embed_preprocessing", "not dicom", "pixels"),
    ([("source: dicom", "source: nifti")], "demo.yaml:3 data", "which rows are of one patient", "ungrouped: true"),
    ([("1000]", "1000], check_against: net.py:g")], "demo.yaml:4 preprocess.check_against", "no function 'g'", "build"),
    ([("image-classification", "text-classification")], "demo.yaml:3 data.source", "takes none", "another task"),
    (
        [("source: dicom, path: study", "source: digits"), ("window: [0, 1000]", "check_against: net.py:build")],
        "demo.yaml:4 preprocess.check_against", "no files of their own", "dicom, nifti",
    ),
]  # fmt: skip


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.chdir(tmp_path)
    write_dicom(tmp_path / "study/a.dcm", disc(1, True))
    write_table(tmp_path / "study", [{"file": "a.dcm", "label": "ill", "site": "north"}])
    (tmp_path / "net.py").write_text("def build(num_labels):\n    pass\n")

    def put(text: str) -> str:
        (tmp_path / "demo.yaml").write_text(text)
        return "demo.yaml"

    return put


@pytest.mark.parametrize(("changes", "where", "what", "hint"), REFUSED)
def test_refused_at_its_place(
    write: Callable[[str], str], changes: list[Change], where: str, what: str, hint: str
) -> None:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    loaded = load_recipe(write(text))
    with pytest.raises(RecipeError) as caught:
        check_images(loaded, plugins.load("tasks", loaded.recipe.model.task)())
    assert re.sub(r":\d+ ", " ", caught.value.where) == where
    assert what in caught.value.what and hint in caught.value.hint


def test_a_package_that_is_not_there(write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.pipeline.checks import image_checks

    loaded = load_recipe(write(RECIPE))
    monkeypatch.setattr(image_checks, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="source dicom needs pydicom") as caught:
        check_images(loaded, plugins.load("tasks", "image-classification")())
    assert caught.value.hint == "pip install 'edgeft[medical]'"


def test_a_good_one_passes(write: Callable[[str], str]) -> None:
    loaded = load_recipe(write(RECIPE))
    check_images(loaded, plugins.load("tasks", "image-classification")())


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("window: [5, 5]", "lo below hi"),
        ("window: [0, 1], spacing: [1]", "at least 2 items"),
        ("window: [0, 1], spacing: [1, -1]", "from 0 to 100"),
        ("window: [0, 1], orientation: XYZ", "got 'XYZ'"),
        ("window: [0, .inf]", "finite"),
    ],
)
def test_values_that_cannot_be(write: Callable[[str], str], text: str, what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(RECIPE.replace("window: [0, 1000]", text)))
    assert what in f"{caught.value.what} {caught.value.hint}" and "preprocess" in caught.value.where


def test_a_gate_by_a_column_that_no_case_has(write: Callable[[str], str]) -> None:
    from edgeft.pipeline.checks.preflight import check_recipe, load_devices

    gate = "{metric: accuracy, at_least: 0.5, by: COLUMN}"
    for column, known in (("site", True), ("modality", True), ("sit", False)):
        loaded = load_recipe(write(RECIPE.replace("{metric: accuracy, at_least: 0.5}", gate.replace("COLUMN", column))))
        task = plugins.load("tasks", "image-classification")()
        if known:
            check_recipe(loaded, load_devices(loaded), task)
            continue
        with pytest.raises(RecipeError, match="no column 'sit'") as caught:
            check_recipe(loaded, load_devices(loaded), task)
        assert "did you mean 'site'" in caught.value.hint
