"""`edgeft recipes list|copy`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.cli import main
from edgeft.recipe.catalogue import shipped_recipes
from edgeft.recipe.load import load_recipe


def test_list_names_and_describes_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"edgeft:{name}" for name in shipped_recipes()]
    assert all(len(line.split()) > 3 for line in lines)


def test_copied_recipe_is_the_same_recipe(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "copy", "text/quickstart"]) == 0
    assert capsys.readouterr().out == "wrote quickstart.yaml; next: edgeft plan quickstart.yaml\n"
    assert load_recipe("quickstart.yaml").recipe == load_recipe("edgeft:text/quickstart").recipe


def test_a_copied_part_of_recipes_is_not_to_be_planned(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "copy", "edgeft:text/base", "shared.yaml"]) == 0
    assert capsys.readouterr().out == "wrote shared.yaml; next: a recipe with `extends: shared.yaml`\n"


def test_copy_into_a_folder_or_under_another_name(project: Path) -> None:
    assert main(["recipes", "copy", "edgeft:text/onnx", "model"]) == 0
    assert main(["recipes", "copy", "text/onnx", "mine.yaml"]) == 0
    assert (project / "model" / "onnx.yaml").read_bytes() == (project / "mine.yaml").read_bytes()


def test_copy_overwrites_only_by_force(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "onnx.yaml").write_text("mine")
    assert main(["recipes", "copy", "text/onnx"]) == 2
    assert "error: onnx.yaml: the file exists\nhint: name another file, or add --force" in capsys.readouterr().err
    assert (project / "onnx.yaml").read_text() == "mine"
    assert main(["recipes", "copy", "text/onnx", "--force"]) == 0
    assert (project / "onnx.yaml").read_bytes() == shipped_recipes()["text/onnx"].read_bytes()


@pytest.mark.parametrize("name", ["text/quikstart", "../../etc/passwd", "nothing"])
def test_unknown_name(project: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["recipes", "copy", name]) == 2
    err = capsys.readouterr().err
    assert f"no shipped recipe is called '{name}'" in err
    assert "hint: " in err


def test_folder_that_does_not_exist(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "copy", "text/onnx", "no/where.yaml"]) == 2
    assert "no/where.yaml: cannot be written: No such file or directory" in capsys.readouterr().err
