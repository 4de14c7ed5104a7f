"""What a run logged: curve points, the best evaluation, and whether patience has run out. Pure functions of the log.

The log is the Trainer's own `log_history`, which its checkpoints carry: whatever follows from it alone survives a
kill without state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edgeft.record import CurvePoint

Metric = Literal[
    "accuracy", "macro_f1", "label_accuracy", "mean_dice", "mean_iou", "pixel_accuracy", "token_accuracy", "nll", "loss"
]
LEAST = ("nll", "loss")
"""Metrics of which the least is the best."""
Log = Sequence[Mapping[str, Any]]


def evaluations(log: Log, metric: Metric) -> list[tuple[int, float]]:
    """(step, value) of every evaluation, in order."""
    key = f"eval_{metric}"
    return [(int(entry["step"]), float(entry[key])) for entry in log if key in entry]


def best_evaluation(log: Log, metric: Metric) -> tuple[int, float] | None:
    """(step, value) of the best evaluation; the earliest of equals."""
    found = evaluations(log, metric)
    if not found:
        return None
    return min(found, key=lambda item: item[1]) if metric in LEAST else max(found, key=lambda item: item[1])


def out_of_patience(log: Log, metric: Metric, patience: int | None) -> bool:
    """True when `patience` evaluations have passed since the best one."""
    best = best_evaluation(log, metric)
    if patience is None or best is None:
        return False
    return sum(step > best[0] for step, _ in evaluations(log, metric)) >= patience


def curve_points(log: Log, metric: Metric) -> list[CurvePoint]:
    """One point per logged step; training and evaluation figures of the same step together."""
    points: dict[int, dict[str, Any]] = {}
    for entry in log:
        if "loss" not in entry and "eval_loss" not in entry:
            continue  # the Trainer's closing summary
        point = points.setdefault(
            int(entry["step"]), {"step": int(entry["step"]), "epoch": float(entry.get("epoch", 0.0))}
        )
        if "loss" in entry:
            point |= {name: entry.get(name) for name in ("loss", "learning_rate", "memory_mb", "examples_per_second")}
        else:
            point |= {"eval_loss": entry["eval_loss"], "eval_metric": entry.get(f"eval_{metric}")}
    return [CurvePoint(**points[step]) for step in sorted(points)]
