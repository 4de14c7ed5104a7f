"""Finished bundles: of texts with golden rows, and of image masks whose rows may not leave the house."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import RECIPE, Workbench
from tests.pipeline.image_nets import UNET, write_shapes
from tests.pipeline.test_images import MASKS

TEXT = RECIPE.replace("optimise: size}}", "optimise: size, candidates: [int8-dynamic]}}").replace(
    "  unit: row\n", "  unit: row\n  licence: CC-BY-4.0\n"
)
PRIVATE = MASKS.replace("seed: 3\n", "seed: 3\nbundle: {golden_rows: false}\n")
ALONE = """
import runpy, sys
kept = set(sys.argv[1].split(",")) | set(sys.stdlib_module_names) | {"model", "preprocess"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if path is None and name not in kept:
            raise ImportError(f"{name} is not on this receiver's machine")
sys.meta_path.insert(0, Refuse())
script, sys.argv = sys.argv[2], sys.argv[2:]
sys.path.insert(0, script.rpartition("/")[0])
runpy.run_path(script, run_name="__main__")
"""
"""A receiver's Python: the standard library, the packages named, and the samples' own modules."""


@dataclass(frozen=True)
class Built:
    """A build that passed, and the one bundle of it."""

    bench: Workbench
    bundle: Path

    def json(self, name: str) -> Any:
        """A JSON file of the bundle."""
        return json.loads((self.bundle / name).read_text(encoding="utf-8"))

    def split(self, name: str) -> Any:
        """Rows of a split, from the store."""
        from edgeft.data.table import read_split

        data = next(row for row in self.bench.record()["steps"] if row["id"] == "data")
        (path,) = self.bench.store.glob(f"objects/*/{data['digest']}/{name}.parquet")
        return read_split(path)


def build(folder: Path, store: Path, recipe: str) -> Built:
    """Build a recipe that passes."""
    (folder / "recipe.yaml").write_text(recipe)
    bench = Workbench(folder, store)
    run = bench.run("build", "recipe.yaml", "--quiet")
    assert run.returncode == 0, run.stderr + run.stdout
    return Built(bench, folder / "out/tiny/targets/local-cpu")


def alone(packages: str, script: Path, *arguments: str) -> list[str]:
    """The command that runs a sample on a receiver's machine."""
    return [sys.executable, "-c", ALONE, packages, str(script), *arguments]


@pytest.fixture(scope="session")
def text_recipe(text_csv: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recipe on texts, with absolute paths as a user's has, and a model that states its licence."""
    model = shutil.copytree(tiny_bert, tmp_path_factory.mktemp("stated") / "model")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return TEXT.format(model=model, data=text_csv, method="lora")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory, text_recipe: str) -> Built:
    """A bundle of a text classifier."""
    return build(tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("one-store"), text_recipe)


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A bundle of a segmentation, of whose data nothing may be shown."""
    folder = tmp_path_factory.mktemp("private")
    write_shapes(folder / "shapes")
    (folder / "net.py").write_text(UNET)
    return build(folder, tmp_path_factory.mktemp("private-store"), PRIVATE)
