"""A recipe on real short texts and a tiny BERT that builds in seconds, and a way to run the real command on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.material import MEASURED, TINY_DATA, write_answered

STEPS = """\
steps:
  - finetune: {{method: {method}, epochs: 2, batch_size: 16, learning_rate: 0.01, eval_steps: 10, checkpoint_steps: 5}}
"""
RECIPE = (
    TINY_DATA
    + STEPS
    + """\
targets:
  - {{device: local-cpu, export: [onnx], optimise: size}}
gates:
  - {{metric: accuracy, no_worse_than: source, margin: 0.08}}
  - {{metric: artifact_mb, at_most: 25}}
"""
)
ASKS_FOR_TIMES = ("measure:", "_ms", "peak_memory")
"""A recipe by size without any of these is built without timing its candidates: most tests are of what it decides."""


def untimed(recipe: str) -> str:
    """The recipe, with `measure: {protocol: none}` unless it asks for times."""
    by_size = recipe.count("optimise: size") == recipe.count("{device:")
    return recipe + "measure: {protocol: none}\n" * (by_size and not any(word in recipe for word in ASKS_FOR_TIMES))


@dataclass
class Workbench:
    """A folder with recipe.yaml, a store of its own, and the `edgeft` command run in it."""

    folder: Path
    store: Path

    def env(self) -> dict[str, str]:
        """The environment of every run."""
        return {**os.environ, "EDGEFT_STORE": str(self.store), "HF_HUB_OFFLINE": "1"}

    def run(
        self, *arguments: str, timeout: float = 300, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`edgeft ARGUMENTS` to its end; a build from a process that has the large libraries. env: further variables."""
        all_env = {**self.env(), **(env or {})}
        if arguments[0] == "build" and (run := warm.edgeft(arguments, self.folder, all_env, timeout)) is not None:
            return run
        return subprocess.run(
            [sys.executable, "-m", "edgeft", *arguments],
            cwd=self.folder,
            env=all_env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`edgeft ARGUMENTS`, running."""
        return subprocess.Popen(
            [sys.executable, "-m", "edgeft", *arguments],
            cwd=self.folder,
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def record(self, name: str = "tiny") -> dict[str, Any]:
        """out/NAME/record.json."""
        content: dict[str, Any] = json.loads((self.folder / "out" / name / "record.json").read_text())
        return content

    def digests(self) -> dict[str, str]:
        """Step -> digest of what it made; measurements apart, which differ by nature."""
        return {row["id"]: row["digest"] for row in self.record()["steps"] if not row["id"].endswith(MEASURED)}


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for tests that only need a finished build, so that they do not train again."""
    return tmp_path_factory.mktemp("shared-store")


@pytest.fixture(scope="session")
def answered(tmp_path_factory: pytest.TempPathFactory, text_csv: Path, tiny_bert: Path) -> tuple[Path, Path]:
    """(folder of a classifier, csv of the texts with its own answers as labels)."""
    folder = tmp_path_factory.mktemp("answered")
    write_answered(folder / "model", tiny_bert, text_csv, folder / "answered.csv")
    return folder / "model", folder / "answered.csv"


@pytest.fixture
def workbench(tmp_path: Path, shared_store: Path, text_csv: Path, tiny_bert: Path) -> Callable[..., Workbench]:
    """workbench(method="lora", fresh=False, extra="", replace=()): a Workbench with that recipe."""

    def make(method: str = "lora", fresh: bool = False, replace: Sequence[tuple[str, str]] = ()) -> Workbench:
        text = RECIPE.format(model=tiny_bert, data=text_csv, method=method)
        for old, new in replace:
            assert old in text, old
            text = text.replace(old, new)
        (tmp_path / "recipe.yaml").write_text(untimed(text))
        return Workbench(tmp_path, tmp_path / "store" if fresh else shared_store)

    return make
