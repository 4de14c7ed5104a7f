"""Real slices of the MNI152 template as a dataset, a preprocessing and contexts: what stages over images are run in."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import digest_json, digest_tree
from edgeft.data.build import build_dataset
from edgeft.recipe.schema import Data, Serve
from edgeft.stage import Context, Split
from edgeft.tasks.segmentation import Segmentation

LABELS = ("rest", "grey", "white")
GREY = Path(__file__).parents[2] / "recipes/vision/grey-192x80"


@dataclass
class Slices:
    """One folder with the splits at 48 x 24 pixels, column `scanner` kept; models come by `code` or as folders."""

    root: Path
    scanners: tuple[str, ...] = ("plain", "bias")
    channels: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / "data").mkdir(parents=True)
        data = Data(
            source="mni-slices", labels=LABELS, group="slab", split="split", unit="row",
            options={"scanners": list(self.scanners), "folder": str(self.root / "pictures")},
        )  # fmt: skip
        task = Segmentation()
        self.facts = dict(
            build_dataset(data, 7, task, self.root / "data", model_labels=None, trains=True, by=("scanner",),
                          warn=self.warnings.append, progress=lambda *_: None)
        )  # fmt: skip
        (self.root / "prepared").mkdir()
        serve = Serve(height=48, width=24).model_dump()
        model = GREY if self.channels == 1 else self.root
        task.prepare(model, {}, LABELS, serve, self.root / "prepared")

    def context(self, name: str) -> Context:
        scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))
        splits = {
            name: Split(name, self.root / "data" / f"{name}.parquet", about["n"], about["digest"])
            for name, about in self.facts["splits"].items()
        }
        return Context(
            step=name, seed=7, scratch=scratch, task=Segmentation(), labels=LABELS, splits=splits,
            prepared=self.root / "prepared", on_warning=self.warnings.append,
        )  # fmt: skip

    def code(self, text: str, name: str = "net.py") -> Artifact:
        """A network from code, with the weights its function draws."""
        path = self.root / name
        path.write_text(text, encoding="utf-8")
        facts = {"form": "code", "code": f"{path}:build", "initialise": True}
        return Artifact("torch-model", path, digest_json(text), facts)

    def folder(self, module: Any) -> Artifact:
        """A transformers model, saved."""
        path = Path(tempfile.mkdtemp(prefix="given-", dir=self.root))
        module.save_pretrained(path)
        return Artifact("torch-model", path, digest_tree(path), {"form": "transformers"})

    def train(self, model: Artifact, **options: Any) -> Artifact:
        from edgeft.stages.finetune import stage_for

        stage = stage_for(options)(**options)
        out = Path(tempfile.mkdtemp(prefix="trained-", dir=self.root))
        facts = stage.run({"model": model}, out, self.context("finetune"))
        return Artifact(stage.makes, out, digest_tree(out), facts)

    def merge(self, base: Artifact, adapter: Artifact, on: str = "measure") -> Artifact:
        from edgeft.stages.merge import Merge

        out = Path(tempfile.mkdtemp(prefix="merged-", dir=self.root))
        facts = Merge.model_validate({"base": on}).run({"base": base, "model": adapter}, out, self.context("merge"))
        return Artifact("torch-model", out, digest_tree(out), facts)
