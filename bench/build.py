"""What the benches take from a build of a shipped recipe: its record, its artefacts in the store, its search cases."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Built:
    """A build's record and the digests of its steps."""

    record: dict[str, Any]
    digests: dict[str, str]

    def place(self, step: str) -> Path:
        """A step's folder in the store."""
        from edgeft.store import Store

        return Store().layout.object(self.digests[step])

    def side(self, device: str, candidate: str, feeds: Any) -> Any:
        """`litert/int8-dynamic` as one side of a comparison."""
        from edgeft import plugins
        from edgeft.artifact import Artifact
        from edgeft.targets.compare import Side

        exporter = plugins.load("exporters", candidate.split("/")[0])()
        step = f"{device}/{candidate}"
        artifact = Artifact(exporter.makes, self.place(step), self.digests[step])
        return Side(exporter.runtime, artifact, exporter.signature(artifact), feeds)

    @property
    def task(self) -> Any:
        """The recipe's task."""
        from edgeft import plugins

        return plugins.load("tasks", self.record["task"])()

    def rows(self, cases: int | None = None, split: str = "search") -> Any:
        """The first cases of a split, or all."""
        from edgeft.data.table import read_split

        rows = read_split(self.place("data") / f"{split}.parquet")
        return rows if cases is None else rows.slice(0, cases)

    def feeds(self, cases: int | None = None) -> Any:
        """Their feeds in the serve shape."""
        return self.task.feeds(self.rows(cases), self.place("prepare"))

    def accuracy(self, candidate: str) -> float:
        """On the search set, as recorded."""
        row = next(row for row in self.record["targets"][0]["candidates"] if row["name"] == candidate)
        return next(float(item["value"]) for item in row["metrics"] if item["metric"] == "accuracy")


def build(recipe: str, *options: str) -> Built:
    """Build a recipe into a temporary folder (cached after the first time) and read what it recorded."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "edgeft", "build", recipe, "--quiet", "--out", out, *options]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        file = next(Path(out).glob("*/record.json"))
        record: dict[str, Any] = json.loads(file.read_text())
    return Built(record, {row["id"]: row["digest"] for row in record["steps"]})
