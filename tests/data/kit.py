"""What the data tests share: a recipe's data section, rows of known content, and a task without a model."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeft.data.build import build_dataset
from edgeft.recipe.schema import Data


class TextTask:
    """The two facts of a task that the dataset step looks at."""

    name = "text-classification"
    columns = ("text",)


class ImageTask:
    name = "image-classification"
    columns = ("image",)


def write_csv(path: Path, rows: Iterable[Sequence[Any]], header: Sequence[str] = ("text", "label")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def sentences(n: int, labels: Sequence[str] = ("red", "green", "blue")) -> list[tuple[str, str]]:
    """n distinct short texts, labels in turn."""
    return [(f"sentence number {i} about {labels[i % len(labels)]}", labels[i % len(labels)]) for i in range(n)]


def build(out: Path, warnings: list[str] | None = None, **data: Any) -> dict[str, Any]:
    """Run the dataset step; keyword arguments that are no data keys: seed, task, model_labels, trains."""
    options = {name: data.pop(name) for name in ("seed", "task", "model_labels", "trains") if name in data}
    out.mkdir(parents=True, exist_ok=True)
    heard = warnings if warnings is not None else []
    return dict(
        build_dataset(
            Data(**data), options.get("seed", 7), options.get("task", TextTask()), out,
            model_labels=options.get("model_labels"), trains=options.get("trains", True),
            warn=heard.append, progress=lambda *_: None,
        )
    )  # fmt: skip
