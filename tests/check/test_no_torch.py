"""A machine that judges models and makes none: no torch, no transformers, first pretended and then in earnest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from edgeft.ship.keys import new_key, public_file
from edgeft.ship.signature import sign_folder
from tests.check import kit

pytestmark = pytest.mark.ml
ROOT = Path(__file__).parents[2]
ABSENT = (
    "torch", "transformers", "peft", "accelerate", "bitsandbytes", "onnxscript", "optimum", "safetensors", "datasets",
    "sklearn", "rich", "packaging", "tensorboard", "pandas", "onnx", "jinja2",
)  # fmt: skip
"""Distributions of the full installation that requirements-check.txt does not have, and the two it marks as extras."""
PRETEND = f"""
import sys

class Absent:
    names = set({ABSENT!r})
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from edgeft import cli
from edgeft.targets import sessions
sessions.PLANS["quick"] = sessions.Plan(sessions=3, blocks=2, seconds=0.4)
code = cli.main(sys.argv[1:])
assert not Absent.names & set(sys.modules)
sys.exit(code)
"""
WORDS = ["check", "same", "--baseline", "base", "--data", "test.csv", "--latency-margin", "900%", "--json"]


def require_passed(record: dict[str, Any]) -> None:
    """Accuracy, latency and size, but for times that other work disturbed."""
    found = {row["check"]: row["status"] for row in record["verdicts"]}
    assert found == {"accuracy": "PASS", "latency": "PASS", "size": "PASS"} or (
        kit.disturbed(record) and found == {"accuracy": "PASS", "latency": "INCONCLUSIVE", "size": "PASS"}
    )


def test_it_needs_neither_torch_nor_transformers(world: Path) -> None:
    """All of it: data, tokenizer, both sides' answers, times, and both files for CI."""
    words = [*WORDS, "--junit", "check.xml", "--markdown", "check.md"]
    done = subprocess.run([sys.executable, "-c", PRETEND, *words], cwd=world, capture_output=True, text=True)
    assert done.returncode in (0, 5), done.stderr
    require_passed(json.loads(done.stdout))
    assert (world / "check.xml").is_file() and (world / "check.md").is_file()


def test_recipes_are_read_there_too(world: Path, texts: kit.Texts) -> None:
    """A recipe names stages and a model folder; judging bare models by it loads neither."""
    for name, scale in (("new", 1.002), ("old", 1.003)):
        kit.text_model(world / f"{name}.onnx", texts.weights * scale)
    config = world / "base" / "tokenizer_config.json"
    config.write_text('{"pad_token": "[PAD]", "model_input_names": ["input_ids", "attention_mask"]}')
    (world / "recipe.yaml").write_text(
        "name: own\nmodel: {onnx: base/model.onnx}\n"
        f"data: {{source: csv, path: test.csv, labels: [{', '.join(texts.labels)}]}}\nserve: {{length: 32}}\n"
        "targets: [{device: local-cpu}]\ngates: [{metric: accuracy, no_worse_than: source, margin: 0.05}]\n"
    )
    words = ["check", "new.onnx", "--baseline", "old.onnx", "--recipe", "recipe.yaml", "--data", "test.csv"]
    command = [sys.executable, "-c", PRETEND, *words, "--no-latency", "--json"]
    done = subprocess.run(command, cwd=world, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdicts"][0]["limit"] == 0.05
    config.write_text('{"pad_token": "[PAD]"}')
    done = subprocess.run(command, cwd=world, capture_output=True, text=True)
    assert done.returncode == 2 and "transformers would have to read this folder's tokenizer" in done.stderr


def requirements() -> dict[str, str]:
    """Name -> range, as requirements-check.txt states them."""
    lines = (ROOT / "requirements-check.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.partition(">=") for line in lines if line and not line.startswith("#")]
    return {name: f">={span}" for name, _, span in rows}


def test_the_ranges_hold_the_lock_and_have_both_ends() -> None:
    """A machine set up today and one set up from the lock file judge alike."""
    from packaging.specifiers import SpecifierSet

    lock = dict(
        line.lower().split("==")
        for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    found = requirements()
    assert {"numpy", "onnxruntime", "tokenizers", "pyarrow", "pydantic"} <= found.keys()
    assert not {"torch", "transformers", "peft"} & found.keys()
    for name, span in found.items():
        assert "<" in span, name
        assert SpecifierSet(span).contains(lock[name]), f"{name} {lock[name]} is outside {span}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with requirements-check.txt and this edgeft as a wheel; its bin folder."""
    place = tmp_path_factory.mktemp("machine")
    tree, listing = place / "tree", subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()  # fmt: skip
    for name in filter(lambda name: (ROOT / name).is_file(), listing):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(place),
        str(tree),
    ]
    subprocess.run(wheel, check=True)
    venv.create(place / "env", with_pip=True)
    here = place / "env" / ("Scripts" if os.name == "nt" else "bin")
    install = [str(here / "python"), "-m", "pip", "install", "-q"]
    subprocess.run([*install, "-r", str(ROOT / "requirements-check.txt")], check=True)
    subprocess.run([*install, "--no-deps", str(next(place.glob("*.whl")))], check=True)
    return here


@pytest.mark.slow
def test_in_an_environment_of_its_own(machine: Path, world: Path) -> None:
    """What pip installs from the file is enough to check, to profile and to verify, and holds no torch."""
    done = subprocess.run([machine / "edgeft", *WORDS], cwd=world, capture_output=True, text=True)
    assert done.returncode in (0, 5), done.stderr
    require_passed(json.loads(done.stdout))
    done = subprocess.run([machine / "edgeft", "profile", "base", "--json"], cwd=world, capture_output=True, text=True)
    assert done.returncode in (0, 5), done.stderr
    key = new_key(world / "release.pem")
    sign_folder(world / "base", key)
    trusted = ["--key", str(public_file(world / "release.pem"))]
    for words in (["verify", "base", *trusted], [*WORDS, *trusted]):
        done = subprocess.run([machine / "edgeft", *words], cwd=world, capture_output=True, text=True)
        assert done.returncode == 0 or (words[0] == "check" and done.returncode == 5), done.stdout + done.stderr
        assert key.id in done.stdout
    looked = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'peft') if u.find_spec(n)])"
    found = subprocess.run([machine / "python", "-c", looked], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
