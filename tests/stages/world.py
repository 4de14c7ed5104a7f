"""A small real world for the training tests: words that decide the label, a word tokenizer, a tiny random BERT.

Importable from a child process too, which a test then kills.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import digest_file, digest_tree
from edgeft.stage import Context, Split
from edgeft.task import Score

LABELS = ("cold", "hot", "wet")
WORDS = {"cold": ("ice", "snow", "frost"), "hot": ("sun", "fire", "sand"), "wet": ("rain", "river", "sea")}
FILLER = tuple(f"word{index}" for index in range(40))
LENGTH = 16


class WordTask:
    """Text classification by whole words: the Task contract without the project's own task."""

    name = "text-classification"
    columns = ("text",)
    metrics = ("accuracy", "macro_f1")
    headline = "accuracy"

    def feeds(self, rows: Any, prepared: Path) -> dict[str, Any]:
        import numpy as np
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(prepared / "tokenizer.json"))
        length = json.loads((prepared / "preprocess.json").read_text())["length"]
        tokenizer.enable_padding(length=length, pad_id=0)
        tokenizer.enable_truncation(length)
        encoded = tokenizer.encode_batch(rows.column("text").to_pylist())
        ids = np.array([item.ids for item in encoded], dtype=np.int64)
        mask = np.array([item.attention_mask for item in encoded], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}

    def plain(self, feeds: Any, prepared: Path) -> Any:
        return feeds

    def keep(self, outputs: Any) -> Any:
        return outputs

    def score(self, outputs: Any, rows: Any, labels: Sequence[str]) -> Score:
        import numpy as np
        from sklearn.metrics import confusion_matrix, f1_score

        truth = rows.column("label").to_numpy()
        predictions = outputs["logits"].argmax(axis=1)
        correct = predictions == truth
        metrics = {
            "accuracy": float(correct.mean()),
            "macro_f1": float(f1_score(truth, predictions, average="macro", zero_division=0)),
        }
        confusion = confusion_matrix(truth, predictions, labels=list(range(len(labels))))
        return Score(metrics, correct, predictions.astype(np.int64), confusion.astype(np.int64))


@dataclass
class World:
    """One folder with data, preprocessing and a base model, and contexts to run stages in."""

    root: Path
    warnings: list[str] = field(default_factory=list)
    progress: list[Any] = field(default_factory=list)

    @property
    def base(self) -> Artifact:
        return self.at("base")

    def context(self, name: str = "finetune", *, seed: int = 7, threads: int = 1) -> Context:
        scratch = self.root / "scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        splits = {}
        for split in ("train", "validation", "calibration"):
            path = self.root / "data" / f"{split}.parquet"
            if path.is_file():
                import pyarrow.parquet as pq

                splits[split] = Split(split, path, pq.read_metadata(path).num_rows, digest_file(path))
        return Context(
            step=name, seed=seed, scratch=scratch, task=WordTask(), labels=LABELS, splits=splits, prepared=self.root / "prepared",
            threads=threads, on_warning=self.warnings.append, on_progress=self.progress.append,
        )  # fmt: skip

    def run(self, options: dict[str, Any], name: str = "finetune", **rest: Any) -> Artifact:
        """Run one fine-tuning stage in a fresh output folder; `name` names its scratch folder. rest: ctx, base."""
        from edgeft.stages.finetune import stage_for

        stage = stage_for(options)(**options)
        out = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))
        facts = stage.run({"model": rest.get("base") or self.base}, out, rest.get("ctx") or self.context(name))
        return Artifact(stage.makes, out, digest_tree(out), facts)

    def distil(self, options: dict[str, Any], name: str = "distill", **rest: Any) -> Artifact:
        """Run the distillation stage on the student in root/small, taught by the model in root/teacher.

        rest: ctx, student, teacher, teacher_adapter.
        """
        from edgeft.stages.distill import Distill

        stage, out = Distill(**options), Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))
        given = {"model": rest.get("student") or self.at("small"), "teacher": rest.get("teacher") or self.at("teacher")}
        if "teacher_adapter" in rest:
            given["teacher_adapter"] = rest["teacher_adapter"]
        facts = stage.run(given, out, rest.get("ctx") or self.context(name))
        return Artifact(stage.makes, out, digest_tree(out), facts)

    def at(self, name: str) -> Artifact:
        """The transformers model in root/NAME."""
        return Artifact("torch-model", self.root / name, digest_tree(self.root / name), {"form": "transformers"})

    def prune(self, options: dict[str, Any], base: Artifact | None = None, ctx: Context | None = None) -> Artifact:
        """Run one pruning stage on the world's base, or on the one given."""
        from edgeft.stages.prune import stage_for

        stage = stage_for(options)(**options)
        out = Path(tempfile.mkdtemp(prefix="pruned-", dir=self.root))
        facts = stage.run({"model": base or self.base}, out, ctx or self.context(out.name))
        return Artifact(stage.makes, out, digest_tree(out), facts)

    def merge(self, adapter: Artifact, given: Artifact | None = None, **options: Any) -> Artifact:
        """Run the merge stage on the world's base, or on the one given."""
        from edgeft.stages.merge import Merge

        out = Path(tempfile.mkdtemp(prefix="merged-", dir=self.root))
        facts = Merge(**options).run({"base": given or self.base, "model": adapter}, out, self.context("merge"))
        return Artifact("torch-model", out, digest_tree(out), facts)


def make_world(root: Path, *, train: int = 96, validation: int = 48, hidden: int = 32, dropout: float = 0.1) -> World:
    """Write everything under `root`; equal arguments give equal bytes."""
    write_data(root / "data", train, validation)
    write_prepared(root / "prepared")
    write_base(root / "base", hidden, dropout)
    return World(root)


def write_data(folder: Path, train: int, validation: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rng = random.Random(3)
    for split, count in (("train", train), ("validation", validation), ("calibration", 16)):
        rows: dict[str, list[Any]] = {"id": [], "text": [], "label": [], "group": [], "unit": []}
        for index in range(count):
            label = rng.randrange(len(LABELS))
            words = [rng.choice(FILLER) for _ in range(rng.randrange(3, LENGTH))] + [rng.choice(WORDS[LABELS[label]])]
            rng.shuffle(words)
            rows["id"].append(f"{split}-{index}")
            rows["text"].append(" ".join(words))
            rows["label"].append(label)
            rows["group"].append(f"g{split}{index}")
            rows["unit"].append(f"g{split}{index}")
        table = pa.table({**rows, "label": pa.array(rows["label"], pa.int64())})
        pq.write_table(table, folder / f"{split}.parquet")


def vocabulary() -> dict[str, int]:
    words = ["[PAD]", "[UNK]", *FILLER, *(word for label in LABELS for word in WORDS[label])]
    return {word: index for index, word in enumerate(words)}


def write_prepared(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocess.json").write_text(
        json.dumps({"kind": "text", "tokenizer": "tokenizer.json", "length": LENGTH, "pad_id": 0})
    )


def write_base(folder: Path, hidden: int, dropout: float, *, seed: int = 1, layers: int = 2) -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary()), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=2 * hidden,
        max_position_embeddings=LENGTH, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
