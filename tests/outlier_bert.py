"""A tiny BERT classifier trained on real docstrings, and the same one with outlier channels planted in it.

The planting changes no answer in float: a channel of the attention's values is multiplied and the rows of the output
projection that read it are divided. In 8 bits the range of that activation leaves few steps to every other channel.
"""

from __future__ import annotations

import csv
from pathlib import Path

FACTOR = 2000.0
PLANTED = ((0, 5), (1, 9))
"""(layer, channel)."""


def train_classifier(base: Path, data: Path, folder: Path, steps: int = 160) -> Path:
    """Fine-tune all weights of a tiny BERT for some seconds; saved as BertForSequenceClassification."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    with data.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)}
    )
    tokens = tokenizer(
        [row["text"] for row in rows], padding="max_length", truncation=True, max_length=32, return_tensors="pt"
    )
    truth = torch.tensor([labels.index(row["label"]) for row in rows])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        take = torch.randint(0, len(rows), (32,))
        loss = model(**{name: array[take] for name, array in tokens.items()}, labels=truth[take]).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plant(folder: Path, out: Path, factor: float = FACTOR, places: tuple[tuple[int, int], ...] = PLANTED) -> Path:
    """A copy with outlier channels. Answers in float stay those of the given model."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        for layer, channel in places:
            attention = model.bert.encoder.layer[layer].attention
            attention.self.value.weight[channel] *= factor
            attention.self.value.bias[channel] *= factor
            attention.output.dense.weight[:, channel] /= factor
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return out
