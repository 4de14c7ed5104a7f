"""A tiny BERT classifier with decided answers, its context and real-shaped feeds, for exporter and target tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeft.artifact import Artifact
from edgeft.stage import Context

LABELS = ("a", "b", "c")
VOCABULARY = 3000
SETTINGS = {"opset": 20, "ir_version": 10}


def save_classifier(folder: Path, seed: int = 0, vocabulary: int = VOCABULARY) -> Artifact:
    """BertForSequenceClassification, hidden 32, 2 layers; weights wide enough that logits spread over a few units."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=len(LABELS),
        initializer_range=0.3,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return Artifact("torch-model", folder, "0" * 64, {"form": "transformers"})


def save_outlier(folder: Path, factor: float = 300.0) -> Artifact:
    """The same with one channel of the first block's feed-forward layer `factor` times as large as the others.

    The next layer, `OUTLIER_READER`, undoes it; 8-bit ranges that cover it leave few steps to the rest.
    """
    import torch
    from transformers import BertForSequenceClassification

    save_classifier(folder)
    module = BertForSequenceClassification.from_pretrained(folder)
    layer = module.bert.encoder.layer[0]
    with torch.no_grad():
        layer.intermediate.dense.weight[7] *= factor
        layer.intermediate.dense.bias[7] *= factor
        layer.output.dense.weight[:, 7] /= factor
    module.save_pretrained(folder)
    return Artifact("torch-model", folder, "0" * 64, {"form": "transformers"})


OUTLIER_READER = "bert.encoder.layer.0.output.dense"


def context(scratch: Path, labels: tuple[str, ...] = LABELS) -> Context:
    """What the exporter is given."""
    task: Any = SimpleNamespace(name="text-classification")
    return Context("test", 0, scratch, task, labels)


def make_feeds(n: int, length: int = 24, seed: int = 0, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    """n padded token rows of different lengths, int64 (n, length)."""
    random = np.random.default_rng(seed)
    ids = random.integers(5, vocabulary, (n, length))
    mask = (np.arange(length)[None, :] < random.integers(3, length + 1, n)[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def logits_of(model: Artifact, feeds: dict[str, Any]) -> Any:
    """The torch model's own answers."""
    from edgeft.models.load import load_model
    from edgeft.models.predict import predict_logits

    return predict_logits(load_model(model, labels=LABELS), feeds)
