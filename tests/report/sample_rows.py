"""Sample candidates: measurements and rows as a build would record them, with invented numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeft.measurement import Measurement
from edgeft.record import CandidateRow, LatencyRow
from tests.report.sample_parts import confusion, samples


def measurements(
    device: str, accuracy: float, runs: list[float] | None, size: float, how: str = "measured"
) -> list[dict[str, Any]]:
    rows = [
        Measurement(
            "accuracy",
            accuracy,
            "",
            980,
            how,
            device,
            (accuracy - 0.017, accuracy + 0.016),
            method="exact Clopper-Pearson",
        ),
        Measurement(
            "macro_f1",
            accuracy - 0.012,
            "",
            980,
            how,
            device,
            (accuracy - 0.031, accuracy + 0.006),
            method="BCa bootstrap",
        ),
        Measurement("artifact_mb", size, "MB", 1, how, device, method="file size"),
    ]
    if runs:
        for name, q in (("p50", 50), ("p90", 90), ("p99", 99)):
            value, spread = float(np.percentile(runs, q)), 0.004 * q / 50
            interval = (value * (1 - spread), value * (1 + spread))
            rows.append(
                Measurement(
                    f"latency_{name}_ms", value, "ms", len(runs), how, device, interval, method="order statistics"
                )
            )
        rows.append(Measurement("cold_load_ms", size * 3.1, "ms", 5, how, device, (size * 2.9, size * 3.4)))
        rows.append(
            Measurement("first_inference_ms", float(runs[0]) * 3.4, "ms", 5, how, device, (runs[0] * 3, runs[0] * 4))
        )
        rows.append(
            Measurement("peak_memory_mb", 60 + size * 2.1, "MB", 3, how, device, (59 + size * 2.1, 63 + size * 2.1))
        )
    return [row.to_json() for row in rows]


def candidate(
    device: str, name: str, status: str, why: str, median: float, size: float, accuracy: float, **more: Any
) -> CandidateRow:
    given = more.pop("latency", None)
    runs = samples(median, seed=len(name)) if more.pop("timed", True) else None
    runs = given.samples_ms if given else runs
    latency = given or LatencyRow(
        samples_ms=runs, runs=1024, warmup_runs=96, seconds=round(sum(runs) / 1000, 2), threads=1, shape="1 x 64", protocol="quick",
    ) if runs else None  # fmt: skip
    return CandidateRow(
        name=name, exporter="onnx", runtime="onnxruntime", variant={"name": name, "options": {}, "keep_float": []}, status=status, why=why,
        digest="9f" * 32, bytes=round(size * 1e6), metrics=measurements(device, accuracy, runs, size, more.pop("how", "measured")),
        flips={"both_right": 880, "both_wrong": 78, "lost": 12, "gained": 10}, latency=latency, placement={"CPUExecutionProvider": 211},
        confusion=confusion(n=980), **more,
    )  # fmt: skip
