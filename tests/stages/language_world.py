"""A world of language models: real docstrings, a byte-level tokenizer of them, and a tiny Llama that has learnt a little."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from edgeft.artifact import Artifact
from edgeft.canonical import digest_file
from edgeft.stage import Context, Split
from edgeft.tasks.text_generation import TextGeneration
from tests.material import write_tiny_llama
from tests.stages.world import World

SIZES = {"train": 400, "validation": 80, "calibration": 40}
LENGTH = 24


@dataclass
class LanguageWorld(World):
    """Splits of next-token texts; the rest is as of other worlds."""

    def context(self, name: str = "finetune", *, seed: int = 7, threads: int = 1) -> Context:
        scratch = self.root / "scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        splits = {}
        for split, count in SIZES.items():
            path = self.root / "data" / f"{split}.parquet"
            splits[split] = Split(split, path, count, digest_file(path))
        return Context(
            step=name, seed=seed, scratch=scratch, task=TextGeneration(), splits=splits, prepared=self.root / "prepared",
            threads=threads, on_warning=self.warnings.append, on_progress=self.progress.append,
        )  # fmt: skip


def make_language_world(root: Path, texts: Path, *, tied: bool) -> tuple[LanguageWorld, Artifact]:
    """(the world, its base after 60 steps of training)."""
    world = LanguageWorld(root)
    with texts.open(encoding="utf-8", newline="") as stream:
        rows = [row["text"] for row in csv.DictReader(stream)]
    rows = rows[::2] + rows[1::2]  # of all three libraries in every split
    (root / "data").mkdir(parents=True)
    start, files = 0, {}
    for split, count in SIZES.items():
        files[split] = root / "data" / f"{split}.parquet"
        part, start = rows[start : start + count], start + count
        ids = [f"{split}-{index}" for index in range(count)]
        parquet.write_table(pa.table({"id": ids, "text": part, "label": [0] * count}), files[split])
    write_tiny_llama(root / "base", texts, tied=tied)
    (root / "prepared").mkdir()
    TextGeneration().prepare(root / "base", files, (), {"length": LENGTH}, root / "prepared")
    learnt = {"method": "full", "max_steps": 60, "batch_size": 16, "learning_rate": 0.01}
    return world, world.run(learnt, "learn")
